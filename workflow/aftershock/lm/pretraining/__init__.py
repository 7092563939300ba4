"""Training a small model from scratch.

text, tokenizer    how facts are said, and the tokens that this is cut into
rows               documents, encoded and packed
settings           how a model is trained
training           from documents to a model
fitting, muon      from rows to weights, in one process or several
processes, worker  how these start, keep in step and end
shared_memory      the tensors that they share
"""
