"""Origin of results, and their equality with others. No result depends on it.

`code_hash` is a hash of the code that a result depends on.
`manifest` lists the files that a run made, `equality` compares two results (their rows: `compare`), and
`verify` compares results with their manifest and makes a sample of them again.
"""
