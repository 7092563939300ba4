"""How a run becomes jobs, and what became of each. Nothing here loads a tensor library.

`record` is what a job says of itself while it runs and after it; whoever asks about a run reads it there.
`equality` says whether two results are equal, `manifest` lists what a run made, and `verify` holds results
against their manifest and makes a sample of them again.
"""
