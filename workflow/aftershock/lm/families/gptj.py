"""GPT-J."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="transformer.h.{}",
    mlp="transformer.h.{}.mlp",
    projection="transformer.h.{}.mlp.fc_out",
    inputs=("transformer.h.{}.mlp.fc_in",),
    attention_projection="transformer.h.{}.attn.out_proj",
    norm="transformer.ln_f",
    tuples=True,
)
