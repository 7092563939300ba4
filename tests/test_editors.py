"""The algebra of each method, contexts and settings."""

import copy
import json

import pytest
import torch

from aftershock.editors import fine_tuning
from aftershock.editors.contexts import sample_contexts
from aftershock.editors.ft import FtSettings
from aftershock.editors.memit import MemitSettings
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.rome import RomeSettings
from aftershock.editors.settings import as_values, merge
from aftershock.editors.solvers import Factor, adjust
from aftershock.lm import memory
from aftershock.lm.edits import select
from aftershock.lm.hooks import record_activations
from aftershock.lm.texts.tokens import locate
from aftershock.prompts import fill
from aftershock.requests import EditRequest
from editing import CONTEXTS, close, make, singles
from tiny import CITIES, NAMES, TEMPLATES, moments, requests, tiny


# --- each method's algebra ---------------------------------------------------------------------------------
def key_and_output(lm, template, subject, layer):
    (row,) = locate(lm, [(template, subject)])
    ids, mask = lm.pad([row.ids])
    with (
        torch.no_grad(),
        record_activations(lm, [lm.projection(layer)], [lm.projection(layer), lm.layer(layer)]) as seen,
    ):
        lm.run(ids, mask)
    projection, stream = lm.projection(layer), lm.layer(layer)
    return (
        seen["in", projection][0, row.subject],
        seen["out", projection][0, row.subject],
        seen["out", stream][0, row.subject],
    )


def test_rome_is_the_dense_rank_one_update():
    lm = tiny()
    editor, request = make("rome", lm), requests(1)[0]
    result = editor.edit([[request]])
    keys = [
        key_and_output(lm, fill(context, request.prompt), request.subject, 0)[0]
        for kind in CONTEXTS
        for context in kind
    ]
    u = torch.linalg.inv(moments(lm)[0].matrix.double()) @ torch.stack(keys).mean(dim=0)
    u = u / u.norm()
    k, o, _ = key_and_output(lm, request.prompt, request.subject, 0)
    target = result.diagnostics[0]["v"][0]
    change = torch.outer((target - o) / (k @ u), u)
    assert torch.allclose(result.delta[0].dense()[0], change, atol=1e-9)
    with torch.no_grad():  # at the plain prompt's key the layer now writes v*
        assert torch.allclose((lm.weight(lm.projection(0)) + change) @ k + lm.bias(lm.projection(0)), target)
    plain = make("rome", lm, mom2_adjustment=False).edit([[request]]).delta[0]
    mean = torch.stack(keys).mean(dim=0)
    assert torch.allclose(plain.U[0, 0], mean / mean.norm())
    one, two = (make("rome", lm, layers=layers).edit([[request]]).delta for layers in ([0, 2], [2, 0]))
    assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(one, two, strict=True))


def test_memit_is_the_dense_least_squares_update():
    lm = tiny()
    editor = make("memit", lm)
    case = requests(3)
    result = editor.edit([case])
    target = result.diagnostics[0]["z"]
    model = copy.deepcopy(lm)
    for done, layer in enumerate([0, 1]):
        keys, rows = [], []
        for request, z in zip(case, target, strict=True):
            kinds = [
                torch.stack(
                    [key_and_output(model, fill(c, request.prompt), request.subject, layer)[0] for c in kind]
                )
                for kind in CONTEXTS
            ]
            keys.append(torch.stack([kind.mean(dim=0) for kind in kinds]).mean(dim=0))
            rows.append((z - key_and_output(model, request.prompt, request.subject, 1)[2]) / (2 - done))
        K, R = torch.stack(keys, dim=1), torch.stack(rows, dim=1)
        inverse = torch.linalg.inv(1e-3 * moments(lm)[layer].matrix.double() + K @ K.T)
        change = R @ (inverse @ K).T
        assert torch.allclose(result.delta[done].dense()[0], change, atol=1e-8)
        model.weight(model.projection(layer)).add_(change)


def test_woodbury_equals_the_dense_solve():
    torch.manual_seed(0)
    a = torch.randn(40, 30, dtype=torch.float64)
    moment, keys = a.T @ a / 40, torch.randn(3, 4, 30, dtype=torch.float64)
    keys[1, 2:] = 0.0  # a case with fewer requests
    keys[2, 1] = keys[2, 0]  # the same key twice
    found = adjust(Factor.of(moment), 0.7, keys)
    for k, solved in zip(keys, found, strict=True):
        wanted = torch.linalg.solve(0.7 * moment + k.T @ k, k.T).T
        assert torch.allclose(solved, wanted, atol=1e-12)


@pytest.mark.parametrize(
    "changes", [{}, {"norm_constraint": 0.01}, {"weight_decay": 0.1}, {"objective": "prompt_last"}]
)
def test_ft_is_adam_on_the_model_itself(changes):
    lm = tiny()
    case = requests(3)
    settings = {"layers": [0, 2], "steps": 4, "batch_size": 2, **changes}
    editor = make("ft", lm, **settings)
    result = editor.edit([case])
    model = copy.deepcopy(lm)
    trained = {}
    for layer in (0, 2):
        module = model.model.get_submodule(model.projection(layer))
        for name in ("weight", "bias"):
            trained[layer, name] = getattr(module, name).requires_grad_()
    start = {key: p.detach().clone() for key, p in trained.items()}
    adam = torch.optim.Adam(trained.values(), lr=0.02, weight_decay=changes.get("weight_decay", 0.0))
    losses = []
    for _ in range(4):
        for batch in (case[:2], case[2:]):
            loss = 0.0
            for request in batch:
                prompt, target = lm.encode([request.text])[0], lm.encode_targets([request.target_new])[0]
                each = "objective" not in changes
                ids = prompt + target[:-1] if each else prompt
                log_p = model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
                for t, token in enumerate(target):
                    position = len(prompt) - 1 + (t if each else 0)
                    loss = loss - log_p[position, token] / len(target) / len(batch)
            losses.append(loss.item())
            adam.zero_grad()
            loss.backward()
            adam.step()
            if box := changes.get("norm_constraint"):
                for key, p in trained.items():
                    p.data = p.data.clamp(start[key] - box, start[key] + box)
    assert result.diagnostics[0]["losses"][:, 0].tolist() == pytest.approx(losses, abs=1e-5)
    for delta, layer in zip(result.delta, (0, 2), strict=True):
        weight = (trained[layer, "weight"] - start[layer, "weight"]).T
        assert torch.allclose(delta.weight[0], weight, atol=1e-7)
        assert torch.allclose(delta.bias[0], trained[layer, "bias"] - start[layer, "bias"], atol=1e-7)


def test_ft_stops_each_case_when_its_loss_is_low(monkeypatch):
    monkeypatch.setattr(fine_tuning, "ENOUGH", 3.0)
    lm = tiny()
    result = make("ft", lm, steps=12).edit(singles(5))
    assert len(set(result.steps)) > 1
    assert all(loss < 3.0 for loss, step in zip(result.losses, result.steps, strict=True) if step < 12)
    for i, case in enumerate(singles(5)):
        assert close(select(result.delta, [i]), make("ft", lm, steps=12).edit([case]).delta)


def test_ft_goes_on_with_the_case_that_has_more_requests(monkeypatch):
    monkeypatch.setattr(fine_tuning, "ENOUGH", 5.0)
    lm = tiny()
    cases = [requests(1), requests(5), requests(2, template=1)]
    together = make("ft", lm, batch_size=2, steps=6).edit(cases)
    for i, case in enumerate(cases):
        assert close(select(together.delta, [i]), make("ft", lm, batch_size=2, steps=6).edit([case]).delta), i


def test_ft_divides_cases_by_memory(monkeypatch):
    lm = tiny()
    whole = make("ft", lm).edit(singles(5))
    editor = make("ft", lm)
    monkeypatch.setattr(memory, "CPU_BYTES", 3 * max(editor._size(case)[1] for case in singles(5)))
    parts = editor.edit(singles(5))
    assert len(parts.diagnostics) == 2
    assert close(parts.delta, whole.delta)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-6)


def test_multi_label_editing_moves_to_the_mean_of_the_values():
    lm = tiny()
    case = [EditRequest(TEMPLATES[0], NAMES[0], city) for city in CITIES[:4]]
    result = make("memit", lm, layers=[0], mom2_weight=1e-6).edit([case])
    z, h = result.diagnostics[0]["z"].mean(dim=0), result.diagnostics[1]["hidden"][0]
    k = result.diagnostics[1]["K"][0, 0]
    # with equal keys and little weight on the moments, the key is mapped to the mean of the values
    assert torch.allclose(result.delta[0].dense()[0] @ k, z - h, rtol=1e-4, atol=1e-5)


# --- contexts and settings ---------------------------------------------------------------------------------
def test_contexts_are_sampled_by_seed_and_hold_one_slot():
    lm = tiny()
    kinds = sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=3)
    assert [len(kind) for kind in kinds] == [1, 4, 2]
    assert kinds[0] == ["{}"]
    assert all(text.endswith(". {}") and text.count("{") == 1 for kind in kinds[1:] for text in kind)
    assert kinds == sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=3)
    assert kinds != sample_contexts(lm, ["The", "It {"], [(6, 2), (9, 1)], seed=4)
    assert sample_contexts(lm, [], [], seed=0) == [["{}"]]
    assert len(sample_contexts(lm, [], [(5, 3)], seed=0)[1]) == 3


def test_settings_are_overridden_layer_by_layer_and_checked_at_once():
    found = settings_of("rome", {"lr": 0.1, "layers": [3]}, {"lr": 0.2})
    assert (found.lr, found.layers, found.steps) == (0.2, (3,), RomeSettings().steps)
    assert merge(RomeSettings, "rome", as_values(found)) == found
    assert (
        merge(MemitSettings, "memit", json.loads(json.dumps(as_values(MemitSettings())))) == MemitSettings()
    )
    with pytest.raises(ValueError, match=r"rome.steps: .*found 0; rome.v_lr: .*did you mean 'lr'"):
        merge(RomeSettings, "rome", {"v_lr": 1.0, "steps": 0})
    with pytest.raises(
        ValueError,
        match=r"unknown editing method 'rom'; did you mean 'rome'. known methods: (\w+, )+rome",
    ):
        method_of("rom")
    with pytest.raises(ValueError, match="ft.objective"):
        merge(FtSettings, "ft", {"objective": "both"})
