"""Editing methods, a package each, and the contract between them and everything that runs one.

`contract` has a `Method` record, the `Editor` class, and the result of an edit. `methods` finds methods by
name or path, `checks` reports breaches of the contract before a run, `artifacts` lists files that must be
made before some editors can run, `settings` merges hyperparameters, `overview` prints tables of all methods.
None of these loads a tensor library, nor does `regularisers`, so that a workflow can be planned without one.

`regularisers` lists the regularisers of a method's changes, with their settings; `regularise` has their
algebra, and `regularised` the editor that applies them to the changes of any other.

`contexts` samples the texts that prompts are read after, `rank_one` and `solvers` hold the algebra that
several methods share, `text_editor` and `statements` the base of methods that put facts before prompts. An
editor uses these and `lm`, and never another method's editor. It is given B cases (each a list of requests),
the state they start from and the method's memory, and returns one delta with a case axis. Taking cases
through states, scoring and undoing are done by `experiments`.
"""
