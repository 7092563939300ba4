"""How a run becomes jobs, and what became of each. Nothing here loads a tensor library.

`record` is what a job says of itself while it runs and after it; whoever asks about a run reads it there.
"""
