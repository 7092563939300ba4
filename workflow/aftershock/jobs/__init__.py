"""Jobs of a run: their records, resources, failures and outputs. Nothing here loads a tensor library.

`record` is a job's own record, written while it runs and at its end, `run` that of the run itself. `job` is a
job as both tell of it: `status` draws how far a run is, `why` reports why jobs failed, and `causes` finds the
cause by the rows of resources/causes.tsv.

`gpus` hands out the GPUs of a workstation; `slurm` is the only interface to SLURM.

Before a run, `folder` and `preflight` look for what would stop it, `places` replaces folders that cannot be
used, and `orphans` finds jobs that an earlier run left. `dag` lists the jobs that Snakemake would run.

`forking` starts jobs with a model from a process that has imported their libraries. `patches` changes
Snakemake's behaviour; among others it takes over what jobs finished after their run had ended.
"""
