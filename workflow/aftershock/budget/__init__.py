"""Cost estimates of a run before it starts, without a tensor library; no result depends on them.

`work` counts what passes through a model take, `edits` an edit by any method, and `cost` the jobs of each
rule; `devices` converts work into seconds. `needs` requests a scheduler's resources for a job and divides
cases into jobs of some minutes, and `plan` estimates a whole study, whose jobs Snakemake lists.
"""
