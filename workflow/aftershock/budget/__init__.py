"""Cost estimates of a run before it starts, without a tensor library; no result depends on them.

Costs follow from sizes and settings: `work` estimates a pass through a model, `edits` each method (by kind:
`gradients`, `values`), `asking` the scoring of probes and facts, `cost` whole jobs, and
`questions` the number of facts that a study asks about. `devices` converts work into seconds, by figures that
`measured` fits to finished jobs. `sharding` divides cases into jobs of some minutes, `needs` requests a
scheduler's resources for a job, and `plan` estimates a whole study, whose jobs `study` lists and `schedule`
assigns to devices.
"""
