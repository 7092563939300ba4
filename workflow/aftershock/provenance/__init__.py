"""Origin of results, and their equality with others. No result depends on it.

`code_hash` is a hash of the code that a result depends on, `equality` compares two results. `manifest` lists
the files that a run made, and `verify` compares them with the manifest and makes a sample of them again.
"""
