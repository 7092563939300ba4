"""Attention of few queries against PyTorch's, values and gradients."""

import pytest
import torch

from aftershock.lm.edits import EMPTY
from aftershock.lm.optimisation.attention import attend, attend_backward, takes_few_queries
from aftershock.lm.optimisation.prefix_cache import split_at_subject
from aftershock.lm.texts.tokens import locate
from tiny import NAMES, tiny


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 8)])
def test_values_and_gradients_are_those_of_the_fused_kernel(queries, keys):
    draw = torch.Generator().manual_seed(0)
    q, k, v, slope = (
        torch.randn(2, 3, n, 4, generator=draw, dtype=torch.float64) for n in (queries, keys, keys, queries)
    )
    seen = torch.rand(2, 1, queries, keys, generator=draw) < 0.7
    seen[..., -1] = True
    mask = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, torch.finfo(q.dtype).min)
    wanted = [tensor.clone().requires_grad_(True) for tensor in (q, k, v)]
    theirs = torch.nn.functional.scaled_dot_product_attention(*wanted, attn_mask=mask, scale=0.7)
    gradients = torch.autograd.grad(theirs, wanted, slope)
    mine, kept = attend(q, k, v, mask, 0.7)
    assert torch.allclose(mine, theirs, atol=1e-12)
    found = attend_backward(slope, kept, 0.7, queries)
    for one, other in zip(found, gradients, strict=True):
        assert torch.allclose(one, other[:, :, -queries:], atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_texts_that_are_long_after_their_subject_are_left_to_the_modules(family):
    lm = tiny(family)
    config = lm.model.config
    width = config.hidden_size // config.num_attention_heads
    assert takes_few_queries(lm, 2 * width)
    assert not takes_few_queries(lm, 2 * width + 1)
    for words, is_written in ((1, True), (3 * width, False)):
        groups = [locate(lm, [("{}" + " is" * words, NAMES[0])])]
        prefixes, _ = split_at_subject(lm, groups, 1, "layer", EMPTY, torch.tensor([0]), [])
        read = torch.zeros(1, 1, 1, dtype=torch.long)
        found = prefixes._written_out(lm, prefixes.hidden, read, read + 1)
        assert (found is not None) is is_written
