"""GPT-2, whose Conv1D modules store their weights (d_in, d_out)."""

from aftershock.lm.families import Family

FAMILY = Family(
    layer="transformer.h.{}",
    mlp="transformer.h.{}.mlp",
    projection="transformer.h.{}.mlp.c_proj",
    inputs=("transformer.h.{}.mlp.c_fc",),
    attention_projection="transformer.h.{}.attn.c_proj",
    norm="transformer.ln_f",
    transposed=True,
)
