"""Cost estimates of a run before it starts, without a tensor library; no result depends on them.

Costs follow from sizes and settings: `work` of a pass through a model, `edits` of each method (by what it
does: `trained`, `optimised`, `remembered`), `asking` of a model, `cost` of whole jobs, `questions` that a
study asks. `devices` turns that into seconds, `sharding` into jobs of minutes,
`needs` into what a job asks of a scheduler, and `plan` into what a study takes, whose jobs `study` lists and
`schedule` hands out to devices.
"""
