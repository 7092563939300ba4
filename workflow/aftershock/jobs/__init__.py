"""Jobs of a run: their records, resources, failures and outputs. Nothing here loads a tensor library.

`record` is a job's own record, written while it runs and at its end; all queries about a run read it.
`gpus` hands out the GPUs of a workstation; `slurm` is the only interface to SLURM.

Before a run, `folder` and `preflight` look for what would stop it, `orphans` for jobs that an earlier run
left, and `adopt` takes over what these finished.

`forking` starts jobs with a model from a process that has imported their libraries. `patches` changes what
Snakemake does.

`why` says why jobs failed: `snakemake_log` and `slurm_jobs` gather, `causes` and `errors` judge.
`status` says how far a run is: `snapshot` takes it in, `view` draws it.
`liveness` tells which run and which jobs are alive.

`equality` says whether two results are equal, `manifest` lists what a run made, and `verify` holds results
against their manifest and makes a sample of them again.
"""
