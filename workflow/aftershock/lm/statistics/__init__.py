"""Statistics of a model that editors and their settings depend on.

`moments` are second moments of keys over text, which may be `published_moments` or come from documents that
the model writes (`self_text`); `null_space` has the directions that text hardly uses. `probe_keys` and
`probe_facts` stand for edits where no case is at hand, and `sinks` measures the stream at a prompt's first
token.
"""
