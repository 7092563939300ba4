"""Language models: loading, reading, scoring, second moments, and training from scratch; not editing.

`families` is the one place that knows how architectures name and store their weights: everywhere else a
weight is (d_out, d_in). `model` holds a loaded model, `reading` turns text into tokens, `beginning` says what
stands in front of every text, `frames` what around prompts, and `sinks` whether a subject can be edited
there, `tokens` finds subjects and targets in texts, `scoring` and `generation` query a model, `chat` answers
messages, `edits` describes changes of weights that apply per row of a batch and are never written into the
model, `fused` makes parts of a model faster, `hooks`, `prefix_cache` and `context_cache` run parts of it,
`values` optimises what a layer should write for an `objective` through the texts of a `value_problem`,
`memory` says how much runs at once, `moments` collects second moments of a sample of `documents` or of a
`self_text` that the model writes, `published_moments` reads those of others, `probe_keys` are keys of
well-known subjects and `probe_facts` edits of them, `gradients` takes the gradient of a loss at a matrix and
`hypernetwork` makes edits of it, `label_encoder` says how alike labels are and `classifier` scores them.
`text`, `tokenizer` and `training` (with the optimiser `muon`) make the small models; `fetch` gets the others
through `hub` and `convert`, `fetch_encoder` a sentence encoder and `fetch_text` text and `fetch_moments` what
`published_moments` reads; `tokenizer_files` and `sentencepiece_files` read the tokenizer of a folder;
`special_tokens` tells texts that spell one; `folders` says without torch what a folder of weights lacks,
`hashes` tells files apart by what they hold.
"""
