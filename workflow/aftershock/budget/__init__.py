"""Cost estimates of a run before it starts, without a tensor library; no result depends on them.

Costs follow from sizes and settings: `work` estimates a pass through a model, `edits` an edit by any
method, `parts` what jobs have in common, `cost` whole jobs, and `questions` the facts that a study asks
about. `devices` converts work into seconds. `sharding` divides cases into jobs of some minutes, `needs`
requests a scheduler's resources for a job, and `plan` estimates a whole study, whose jobs Snakemake lists.
"""
