"""The value that an edit writes is the model's output, in every family, with a norm after the MLP or not."""

import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import Batch, apply_deltas
from aftershock.lm.hooks import record_activations
from aftershock.lm.texts.tokens import locate
from aftershock.prompts import fill
from tiers import of_families, once_each
from tiny import FAMILIES, ROUNDING, in_turn, moments, requests, tiny

VALUES = {"layers": [0], "steps": 6, "lr": 0.2, "weight_decay": 0.01, "clamp": 4.0}


def put_out(lm, request, module, state):
    """Return the output of `module` at the subject's last token of the plain prompt."""
    (prompt,) = locate(lm, [(request.prompt, request.subject)])
    ids, mask = lm.pad([prompt.ids])
    with (
        torch.no_grad(),
        apply_deltas(lm, state, Batch.of_prompts(ids, mask, torch.tensor([0]))),
        record_activations(lm, outputs=[module]) as seen,
    ):
        lm.run(ids, mask, use_cache=False)
    return seen["out", module][0, prompt.subject]


def edit(method, lm, request, **changes):
    editor = method_of(method).load()(
        lm,
        settings_of(method, VALUES, changes),
        {"moments": moments(lm)},
        contexts=[["{}"], ["It rains. {}"]],
    )
    return editor.edit([[request]])


@pytest.mark.parametrize(("method", "family"), once_each(in_turn(["rome", "r_rome"])))
def test_rome_writes_its_value_into_the_mlp(method, family):
    lm, request = tiny(family), requests(1)[0]
    found = edit(method, lm, request)
    wanted = found.diagnostics[0]["v"][0]
    written = put_out(lm, request, lm.mlp(0), found.delta)
    assert torch.allclose(written, wanted, atol=100 * ROUNDING[family])
    assert not torch.allclose(put_out(lm, request, lm.mlp(0), ()), wanted, atol=1e-3)


def test_keys_and_outputs_told_are_those_that_are_written():
    lm, request = tiny(), requests(1)[0]
    module, seen = lm.projection(0), []
    for context in ("{}", "It rains. {}"):
        (prompt,) = locate(lm, [(fill(context, request.prompt), request.subject)])
        ids, mask = lm.pad([prompt.ids])
        with torch.no_grad(), record_activations(lm, inputs=[module], outputs=[module]) as found:
            lm.run(ids, mask, use_cache=False)
        seen.append((found["in", module][0, prompt.subject], found["out", module][0, prompt.subject]))
    plain, mean = seen[0], [torch.stack(both).mean(dim=0) for both in zip(*seen, strict=True)]
    for method, changes, (k, o) in (
        ("rome", {}, plain),
        ("r_rome", {"keys": "prompt"}, plain),
        ("r_rome", {"keys": "averaged"}, mean),
    ):
        told = edit(method, lm, request, **changes).diagnostics[0]
        assert torch.allclose(told["k0"][0], k, atol=1e-9)
        assert torch.allclose(told["o0"][0], o, atol=1e-9)
        right = (told["v"][0] - o) / (k @ told["u"][0])
        assert torch.allclose(told["right"][0], right, atol=1e-9)


def test_averaged_keys_write_the_mean_value_at_the_mean_key():
    lm, request = tiny(), requests(1)[0]
    found = edit("r_rome", lm, request, keys="averaged").diagnostics[0]
    one = edit("r_rome", lm, request, keys="averaged").delta[0]
    key = found["k"][0]
    assert torch.allclose(one.U[0, 0] @ key, (found["u"][0] @ key), atol=1e-9)
    moved = one.dense()[0] @ key  # from the mean output to v*
    assert torch.allclose(
        moved + lm.weight(lm.projection(0)) @ key + lm.bias(lm.projection(0)), found["v"][0]
    )


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_memit_writes_its_value_where_it_says(family):
    lm, request = tiny(family), requests(1)[0]
    # only the plain prompt as context, and next to no weight on the moments: nothing keeps it from its value
    editor = method_of("memit").load()(
        lm, settings_of("memit", VALUES, {"mom2_weight": 1e-9}), {"moments": moments(lm)}, contexts=[["{}"]]
    )
    found = editor.edit([[request]])
    module = lm.mlp(0) if lm.family.mlp_norm else lm.layer(0)
    written = put_out(lm, request, module, found.delta)
    assert torch.allclose(written, found.diagnostics[0]["z"][0], atol=1e-5)
