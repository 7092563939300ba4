"""Edits for sequences: from files in the usual formats, from cases of a run, or from facts of its graph.

`record` is one edit as any source gives it, with what it should change and leave alone beside it. `formats`
reads the rows of each format of file, `reading` a whole file, broken rows included. `from_graph` makes edits
of facts that a model knows, `from_cases` takes the first edits of a dataset. `choose` decides which of them a
plan makes, and marks those that repeat or contradict others; `listing` puts all of that into tables.
"""
