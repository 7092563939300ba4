"""Upper layers and attention written out by hand against modules and kernels, outputs and gradients."""

import copy

import pytest
import torch

from aftershock.lm.edits import EMPTY
from aftershock.lm.optimisation.attention import attend, attend_backward, takes_few_queries
from aftershock.lm.optimisation.gpt2_layers import Gpt2Layers
from aftershock.lm.optimisation.llama_layers import LlamaLayers
from aftershock.lm.optimisation.prefix_cache import split_at_subject
from aftershock.lm.optimisation.written_out import WrittenOut
from aftershock.lm.products import lay_out
from aftershock.lm.texts.tokens import locate
from tiny import NAMES, TEMPLATES, low_rank, tiny


def outcome(lm, layer, state):
    """Hidden states at the positions that are read after two vectors, their gradients, and the prefixes."""
    groups = [
        locate(lm, [(f"{start} {template} Rome.", name) for start in ("Then as they say", "So")])
        for template, name in zip(TEMPLATES, NAMES[1:3], strict=False)
    ]
    prefixes, _ = split_at_subject(lm, groups, layer, "layer", state, torch.tensor([0, 1]), [])
    ends = torch.tensor([[len(row.ids) - row.subject - 1 for row in group] for group in groups])
    ends[1, 0] -= 1  # a text whose last token is not read
    read = torch.stack([ends, torch.zeros_like(ends), ends - 1], dim=2)
    valid = torch.tensor([1, 0, 1]).expand(read.shape)
    index = (read + torch.arange(2)[:, None] * prefixes.ids.shape[2])[:, :, ::2].flatten(1)
    draw, found = torch.Generator().manual_seed(2), []
    for _ in range(2):
        vector = torch.randn(2, lm.d_model, generator=draw, dtype=lm.dtype).requires_grad_(True)
        with prefixes.run(lm, state, vector, read, valid, index) as (seen, _):
            pass
        slope = torch.randn(seen.shape, generator=draw, dtype=lm.dtype)
        found += [seen.detach(), *torch.autograd.grad((seen * slope).sum(), vector)]
    return found, prefixes


KINDS = {"gpt2": Gpt2Layers, "llama": LlamaLayers, "mistral": LlamaLayers, "qwen2": LlamaLayers}


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("laid_out", [False, True], ids=["apart", "laid out"])
def test_passes_and_gradients_are_those_of_the_modules(family, layer, laid_out, monkeypatch):
    lm = copy.deepcopy(tiny(family))
    if laid_out:
        lay_out(lm.model)
    state = (low_rank(lm, 0, 2),)
    mine, prefixes = outcome(lm, layer, state)
    passes = prefixes._made["written out"][1]
    assert type(passes) is KINDS[family]
    if family != "gpt2":
        assert len(passes.attending[0].weights) == (1 if laid_out else 3)
    assert 0 < len(passes.tokens(torch.zeros(4, lm.d_model, dtype=lm.dtype))) < prefixes.ids.numel()
    assert "passes" not in prefixes._made
    monkeypatch.setattr(WrittenOut, "of", lambda *args: None)
    theirs, prefixes = outcome(lm, layer, state)
    assert "passes" in prefixes._made
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-11)


def test_modules_with_hooks_and_other_models_are_run_as_they_are():
    lm = tiny("gpt2")
    handle = lm.model.get_submodule(lm.mlp(2)).register_forward_hook(lambda module, args, output: 2 * output)
    hooked, prefixes = outcome(lm, 1, EMPTY)
    handle.remove()
    plain, _ = outcome(lm, 1, EMPTY)
    assert "passes" in prefixes._made
    assert not torch.allclose(hooked[0], plain[0])
    _, prefixes = outcome(tiny("gemma2"), 1, EMPTY)
    assert "passes" in prefixes._made


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
