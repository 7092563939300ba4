"""Fetching and conversion of models, encoders, text and second moments into local files.

`fetch` brings a model, `fetch_encoder`, `fetch_gguf`, `fetch_moments` and `fetch_text` the other kinds; `hub`
lists and copies what a repository holds. `folders` says what is wrong with a folder of weights before a
library reads it, `gguf_files` and `convert` write weights as safetensors, and `hashes` tells files by their
content.
"""
