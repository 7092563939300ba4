"""Falcon 1 and 2, but for the sizes with ALiBi; `lm/rebuilt_layers.py` has its layer."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="transformer.h.{}",
    mlp="transformer.h.{}.mlp",
    projection="transformer.h.{}.mlp.dense_4h_to_h",
    inputs=("transformer.h.{}.mlp.dense_h_to_4h",),
    attention_projection="transformer.h.{}.self_attention.dense",
    norm="transformer.ln_f",
    tuples=True,
    needs=(("alibi", False),),
)
