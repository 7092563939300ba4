"""Jobs of a run: their records, resources, failures and outputs. Nothing here loads a tensor library.

`record` is a job's own record, written while it runs and at its end; `run` is that of the run itself, and a
job as both tell of it. `status` says how far a run is, `why` reports why jobs failed.

`gpus` hands out the GPUs of a workstation; `slurm` is the only interface to SLURM. Before a run, `folder`
looks for folders that would stop it, and `orphans` for jobs that an earlier run left. `dag` lists the jobs
that Snakemake would run. `forking` starts jobs from a process that has imported their libraries. `patches`
changes Snakemake's behaviour; among others it takes over what jobs finished after their run had ended.
"""
