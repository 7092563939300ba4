"""How a run becomes jobs, and what became of each. Nothing here loads a tensor library.

`record` is what a job says of itself while it runs and after it; whoever asks about a run reads it there.
`why` says why jobs failed: `snakemake_log` and `slurm_jobs` gather, `causes` and `errors` judge.
`status` says how far a run is: `snapshot` takes it in, `view` draws it.
`liveness` tells which run and which jobs are alive.
"""
