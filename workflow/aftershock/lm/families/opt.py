"""OPT, but for the size of 350m, which normalises behind its MLPs.

Its layers hold the MLP's matrices themselves; `lm/rebuilt_layers.py` gives them an MLP.
"""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="model.decoder.layers.{}",
    mlp="model.decoder.layers.{}.mlp",
    projection="model.decoder.layers.{}.fc2",
    inputs=("model.decoder.layers.{}.fc1",),
    attention_projection="model.decoder.layers.{}.self_attn.out_proj",
    norm="model.decoder.final_layer_norm",
    shown_positions=True,
    needs=(("do_layer_norm_before", True), ("_remove_final_layer_norm", False)),
)
