"""Editing methods, one file each, and the protocol that runs cases through them.

To add a method: write a class derived from `base.Editor` in a file of its own, give it a settings dataclass
in `settings`, and name both in `table`, with the kind of jobs/edits.py that says what an edit costs. An
editor is given B cases (each a list of requests) and the state they start from, and returns one delta with a
leading case axis; applying, scoring and undoing are the business of `protocol`. An editor uses `lm` and
never another editor. `tuning` chooses settings on dev cases, `sweep` tries an editor layer by layer. MEND
edits with a hypernetwork that is trained first, by a stage of its own: `mend_data` makes batches,
`mend_training` trains, `mend_checkpoint` lets a killed training go on. `depth` says where to edit a model
without published settings. `table` and `settings` load no tensor library, so that the workflow can be
checked without one.
"""
