"""GPT-Neo, whose layers have a window in turn; `lm/rebuilt_layers.py` has its attention."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="transformer.h.{}",
    mlp="transformer.h.{}.mlp",
    projection="transformer.h.{}.mlp.c_proj",
    inputs=("transformer.h.{}.mlp.c_fc",),
    attention_projection="transformer.h.{}.attn.attention.out_proj",
    norm="transformer.ln_f",
    tuples=True,
    stacked_masks="window_size",
)
