"""Aftershock: what else moves when a fact in a language model is edited.

Rooms, in the order of the pipeline: `kg` mines facts and logic rules from a graph, `cases` turns them into
benchmark cases, `lm` loads, trains and scores models, `editors` changes facts in them, `metrics` turns
observed probabilities into numbers. The modules at this level are shared by all rooms.
"""
