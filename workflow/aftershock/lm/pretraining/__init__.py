"""Training a small model from scratch.

`text` says the facts, `tokenizer` learns their tokens, `training` and `muon` train.
"""
