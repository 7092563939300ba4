"""Language models: loading, reading, scoring, second moments, and training from scratch; not editing.

`families` is the only place that knows how architectures name and store their weights: everywhere else a
weight is (d_out, d_in). `model` holds a loaded model, some of whose modules `fused` makes faster; `texts`
tokenises its input. `scoring` and `generation` query it, and `outputs` lets another model answer in its
place. `edits` describes changes of weights that apply per row of a batch and are never written to the model.

`hooks` records activations and starts passes at a layer, `gradients` takes the gradient of a loss at a
matrix, `attribution` that of a probability at neurons, and `memory` sizes batches. `optimisation` optimises a
layer's output at the subject, `statistics` holds second moments and quantities derived from them, and
`networks` has auxiliary networks. `pretraining` trains the small models, `files` fetches the others.
"""
