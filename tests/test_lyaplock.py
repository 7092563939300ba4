"""LyapLock: least squares that start anew from the unedited weights, and the queue of their preservation."""

import pytest
import torch

from aftershock.editors.changes import change_of, times
from aftershock.editors.lyaplock import written
from aftershock.editors.lyaplock.edit import preservation_loss
from aftershock.editors.lyaplock.written import Queue, Written
from aftershock.editors.methods import settings_of
from aftershock.lm.edits import Dense
from editing import close, make
from obvious import off
from tiny import dense, low_rank, requests, tiny

STRONG = {"layers": [0, 1], "mom2_weight": 0.01, "alpha": 0.5}


def edits():
    """Three edits of two cases, the second case with other facts."""
    return [[requests(6)[i : i + 1], requests(6, template=1)[i : i + 1]] for i in range(3)]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_first_edit_is_memits(family):
    lm = tiny(family)
    cases = edits()[0]
    first = make("lyaplock", lm, **STRONG).edit(cases)
    assert close(first.delta, make("memit", lm, layers=[0, 1], mom2_weight=0.01).edit(cases).delta, 1e-9)


@pytest.mark.parametrize("share", [1, 10**9])  # keys as they are, and in sums from the first edit on
def test_later_edits_are_those_of_the_released_form(share, monkeypatch):
    """With whole matrices, as the released code has them: S, T with the weights W, and W_0 in every edit."""
    monkeypatch.setattr(written, "SHARE", share)
    lm = tiny("llama")
    own = {"edit_weight": 2.0, "queue_drift": 0.01, "queue_start": 1.5, "queue_step": 0.8, "queue_floor": 0.5}
    editor, case = make("lyaplock", lm, **STRONG, **own), 1
    s, state, memory = editor.settings, (), None
    base: dict[int, float] = {}
    Z: dict[int, float] = {}
    S = {layer: torch.zeros_like(editor.factor(layer).matrix) for layer in (0, 1)}
    T = {layer: torch.zeros_like(lm.weight(lm.projection(layer)).double()) for layer in (0, 1)}
    for number, cases in enumerate(edits()):
        result = editor.edit(cases, state, memory)
        for found in result.diagnostics[1:]:
            layer = found["layer"]
            module, C, K, R = (
                lm.projection(layer),
                editor.factor(layer).matrix,
                found["K"][case],
                found["R"][case],
            )
            W0 = lm.weight(module).double()
            before = change_of(module, state)
            W = W0 if before is None else W0 + before.dense()[case]
            w, V = s.mom2_weight, 1.0
            if number:
                w *= s.queue_step / (s.alpha * base[layer]) ** 0.5 * Z[layer]
                V = s.edit_weight
            A = V * (K.T @ K + S[layer]) + w * C
            right = V * (R.T @ K + T[layer] - W @ S[layer]) + w * (W0 - W) @ C
            wanted = torch.linalg.solve(A, right.T).T
            ours = change_of(module, result.delta)
            assert off(ours.dense()[case], wanted) < 1e-7, (number, layer)
            W = W + wanted
            S[layer], T[layer] = S[layer] + K.T @ K, T[layer] + W @ K.T @ K
            loss = float(torch.trace((W - W0) @ C @ (W - W0).T))
            base.setdefault(layer, loss)
            allowed = s.alpha * base[layer]
            Z.setdefault(layer, s.queue_start * allowed**0.5)
            Z[layer] += s.queue_step / allowed**0.5 * (loss - allowed) + s.queue_drift
            Z[layer] = max(Z[layer], s.queue_floor * allowed**0.5)
            kept = Queue.read(result.memory, layer, 2, lm.device)
            assert float(kept.length[case]) == pytest.approx(Z[layer], rel=1e-7)
        state, memory = state + result.delta, result.memory
        assert ("S.0" in memory) == (share != 1)


def test_a_change_becomes_a_matrix_where_factors_would_be_larger():
    lm = tiny("gpt2")
    editor = make("lyaplock", lm, **STRONG)
    state, memory, kinds = (), None, []
    for cases in edits() * 3:
        result = editor.edit(cases, state, memory)
        state, memory = state + result.delta, result.memory
        kinds.append({type(delta) for delta in result.delta})
    assert kinds[0] != {Dense}
    assert kinds[-1] == {Dense}
    alone, mine = (), None
    for cases in edits() * 3:
        result = editor.edit(cases[1:], alone, mine)
        alone, mine = alone + result.delta, result.memory
    for module in (lm.projection(0), lm.projection(1)):
        assert off(change_of(module, alone).dense()[0], change_of(module, state).dense()[1]) < 1e-6


def test_losses_and_products_are_those_of_matrices():
    lm = tiny("gpt2")
    a = torch.randn(lm.weight(lm.projection(0)).shape[1], 40, dtype=torch.float64)
    C, keys = a @ a.T, torch.randn(3, 2, len(a), dtype=torch.float64)
    for change in (low_rank(lm, 0, 3), dense(lm, 0, 3)):
        D = change.dense().double()
        assert off(times(change, keys), keys @ D.mT) < 1e-10
        wanted = torch.stack([torch.trace(d @ C @ d.T) for d in D])
        assert off(preservation_loss(change, C), wanted) < 1e-10


def test_a_queue_grows_with_what_is_lost_and_not_below_its_floor():
    settings = settings_of("lyaplock", {"layers": [0], "alpha": 4.0})
    empty = Queue.read(None, 0, 2, torch.device("cpu"))
    assert empty.weight(settings).tolist() == [1.0, 1.0]
    first = empty.after(
        torch.tensor([1.0, 0.0]).double(), settings
    )  # allowed 4: Z = 2 + (1 - 4) / 2, at least 2
    assert first.length.tolist() == [2.0, 0.0]
    assert first.weight(settings).tolist() == [
        1.0,
        1.0,
    ]  # nothing was lost in the second case: it starts again
    later = first.after(torch.tensor([10.0, 1.0]).double(), settings)  # 2 + (10 - 4) / 2
    assert later.length.tolist() == [5.0, 2.0]
    assert later.weight(settings).tolist() == [2.5, 1.0]
    assert later.after(torch.tensor([2.0, 1.0]).double(), settings).length.tolist() == [4.0, 2.0]


def test_rows_that_fill_up_are_no_keys():
    kept = Written().add(
        torch.eye(32, dtype=torch.float64)[None, :2] * torch.tensor([[1.0], [0.0]]), torch.ones(1, 2, 3)
    )
    assert kept.keys.shape == (1, 1, 32)
