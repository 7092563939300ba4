"""Sequences of edits: which are made when, what is kept of them, and what the model says along them.

`plan` says which edits are made together and starting from what, in which orders, and which checkpoints are
evaluated by one job; it loads no tensors, as rules and checks of the configuration read it.
"""
