"""Optimisation of a layer's output at the last subject token, for many values in one batch.

`values` has the loop and `objective` what falls in it and when it ends; `value_problem` holds the texts.
`prefix_cache` runs only the end of a text again, `context_cache` keeps what many texts begin with, and
`upper_layers`, `written_out`, `gpt2_layers` and `llama_layers` are the passes above the edited layer.
"""
