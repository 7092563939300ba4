"""Jobs of a run: their records, resources, failures and outputs. Nothing here loads a tensor library.

`record` is a job's own record, written while it runs and at its end; all queries about a run read it.
`gpus` hands out the GPUs of a workstation; `slurm` is the only interface to SLURM.

Before a run, `folder` and `preflight` check for problems that would stop it, and `orphans` finds jobs that an
earlier run left. `dag` lists the jobs that Snakemake would run.

`forking` starts jobs with a model from a process that has imported their libraries. `patches` changes
Snakemake's behaviour; among others it takes over what jobs finished after their run had ended.

`why` reports why jobs failed: `snakemake_log` and `slurm_jobs` gather the facts, `causes` and `errors` find
the cause. `status` reports the progress of a run: `snapshot` collects it, `view` draws it. `liveness` finds
out which run and which jobs are alive.
"""
