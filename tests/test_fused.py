"""Fused parts of a model against transformers' own, outputs and gradients."""

import pytest
import torch

from aftershock.lm import fused
from aftershock.lm.optimisation.context_cache import recall
from aftershock.lm.optimisation.frozen_cache import FrozenCache
from aftershock.lm.texts.tokens import locate
from benchmarks import models
from tiers import of_families
from tiny import FAMILIES, MORE, tiny

FUSED = {"llama", "mistral", "qwen2", "qwen3", "olmo2", "olmo3", "smollm3", "ministral", "granite"}


def outcome(model, ids):
    """Logits, and the gradient of some number made of them at the embeddings."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded).logits
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=logits.dtype)
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), embedded)[0]


@pytest.mark.parametrize("family", of_families([*FAMILIES, *MORE]))
def test_a_fused_model_says_what_its_own_modules_say(family):
    lm = tiny(family)
    ids = torch.arange(24).reshape(2, 12) * 7 % lm.model.config.vocab_size
    (mine, slope), (theirs, expected) = outcome(lm.model, ids), outcome(models.as_published(lm).model, ids)
    assert torch.allclose(mine, theirs, atol=1e-10)
    assert torch.allclose(slope, expected, atol=1e-10)
    kinds = {type(module) for module in lm.model.modules()}
    assert family in MORE or ({fused.RmsNorm, fused.GatedMlp} <= kinds) == (family in FUSED)


def test_beginnings_are_kept_until_weights_change():
    lm = tiny()
    texts = ["It rains.", "As they say in Graz.", ""]
    found = recall(lm, texts)
    assert recall(lm, texts) is found
    assert found.ids == ((), *(tuple(ids) for ids in lm.encode(texts[:2])))
    row, other = locate(lm, [("It rains. {} was born in", "Ada Vex"), ("{} was born in", "Ada Vex")])
    assert [found.before(row), found.before(other)] == [1, 0]
    cache = FrozenCache()
    with torch.no_grad():
        lm.run(*lm.pad(lm.encode(texts[:1])), past_key_values=cache, use_cache=True)
    for (keys, _), (expected, _) in zip(found.past([1]), cache.made.values(), strict=True):
        assert torch.allclose(keys[:, :, : expected.shape[2]], expected, atol=1e-12)
    weight = lm.weight(lm.projection(0))
    before = weight.clone()
    with torch.no_grad():
        weight.mul_(2)
        changed = recall(lm, texts)
        weight.copy_(before)
    assert changed is not found
    assert not torch.allclose(changed.kept[-1][0], found.kept[-1][0])
