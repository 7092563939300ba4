"""Language models: loading, reading, scoring, second moments, and training from scratch; not editing.

`families` is the one place that knows how architectures name and store their weights: everywhere else a
weight is (d_out, d_in). `model` holds a loaded model, which `fused` makes faster in parts; `texts` turns
what it reads into tokens. `scoring` and `generation` query it, and `outputs` lets another model answer for
it. `edits` describes changes of weights that apply per row of a batch and are never written into the model.

`hooks` looks into a pass and enters it halfway, `gradients` takes the gradient of a loss at a matrix,
`attribution` that of a probability at neurons, and `memory` says how much runs at once. `optimisation`
finds what a layer should write, `statistics` holds second moments and what follows from them, `networks`
those that edit or compare texts beside the model. `pretraining` makes the small models, `files` brings the
others.
"""
