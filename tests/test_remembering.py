"""NSE, LyapLock and SimIE: least squares on some neurons, from unedited weights, and over other changes."""

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.editors.changes import change_of, times
from aftershock.editors.lyaplock import written
from aftershock.editors.lyaplock.edit import preservation_loss
from aftershock.editors.lyaplock.written import Queue, Written
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.request_batch import RequestBatch
from aftershock.lm.edits import EMPTY, Dense
from aftershock.lm.hooks import record_activations
from editing import close, make
from obvious import off
from tiny import dense, low_rank, requests, tiny

WEIGHT = {"mom2_weight": 0.01}
STRONG = {"layers": [0, 1], **WEIGHT, "alpha": 0.5}


def layers_of(result):
    """Diagnostics of each layer of each pass."""
    return [found for found in result.diagnostics[1:] if "pass" in found]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_pass_over_all_neurons_and_a_first_edit_before_any_queue_are_memit(family):
    lm, cases = tiny(family), [requests(2), requests(1, template=1)]
    wanted = make("memit", lm, layers=[0, 1], **WEIGHT).edit(cases).delta
    for editor in (
        make("nse", lm, layers=[0, 1], max_iterations=2, **WEIGHT),
        make("lyaplock", lm, **STRONG),
    ):
        assert close(editor.edit(cases).delta, wanted, 1e-9)


@pytest.mark.parametrize("share", [16, 10**9])  # earlier keys as they are, and as a matrix
def test_only_the_neurons_that_fire_most_are_written(share, monkeypatch):
    monkeypatch.setattr(previous_keys, "SHARE", share)
    lm = tiny("llama")
    editor = make("nse", lm, layers=[0], neuron_share=0.6, max_iterations=2, **WEIGHT)
    first = editor.edit([requests(2), requests(2, template=1)])
    second = editor.edit([requests(1, template=2), requests(2, template=2)], first.delta, first.memory)
    (found,) = layers_of(second)
    C = editor.factor(0).matrix
    for case in range(2):
        K, R = found["K"][case].T, found["R"][case].T
        s = K.abs().sum(dim=1)
        order = s.argsort(descending=True).tolist()
        chosen, total = [], 0.0
        for neuron in order:
            total += float(s[neuron])
            if total > 0.6 * float(s.sum()):
                break
            chosen.append(neuron)
        assert 1 < len(chosen) < len(s)
        known = PreviousKeys.read(first.memory, 0, lm.device).total(found["K"])[case]
        A = (0.01 * C + known)[chosen][:, chosen] + K[chosen] @ K[chosen].T
        wanted = torch.zeros(R.shape[0], len(s), dtype=torch.float64)
        wanted[:, chosen] = R @ torch.linalg.solve(A, K[chosen]).T
        change = second.delta[0].dense()[case].double()
        assert off(change, wanted) < 1e-6
        assert not change[:, [i for i in range(len(s)) if i not in chosen]].any()


def test_a_neuron_above_the_share_is_written_by_itself():
    editor = make("nse", tiny(), layers=[0], neuron_share=0.3)
    K = torch.tensor([[[0.0, -9.0, 1.0]], [[1.0, 1.0, 1.0]]]).double()
    assert editor.neurons(K).tolist() == [[False, True, False], [True, False, False]]
    assert make("nse", tiny(), layers=[0]).neurons(K).all()


def test_at_a_share_of_one_the_released_sum_is_in_float32_by_the_number_of_threads():
    g = torch.Generator().manual_seed(0)
    for K in (torch.rand(1, 1, 3000, generator=g).double(), torch.full((1, 1, 3000), 0.1).double()):
        scores = K[0, 0].float()
        ordered = scores.sort(descending=True).values
        for threads in (1, 2, 3):
            total = torch.stack([part.sum() for part in scores.chunk(threads)]).sum()
            within = int((ordered.cumsum(0) <= total).nonzero()[-1, 0]) + 1
            released = make("nse", tiny(), layers=[0], variant="released", threads=threads)
            assert int(released.neurons(K).sum()) == within
            assert make("nse", tiny(), layers=[0], threads=threads).neurons(K).all()


def test_a_second_pass_takes_those_that_are_still_far():
    lm, cases = tiny("gpt2"), [requests(3)]
    every = make("nse", lm, layers=[0, 1], **WEIGHT).edit(cases)
    before, after = (found["distance"] for found in layers_of(every)[::2])
    assert (after < before).all()
    assert [found["pass"] for found in layers_of(every)] == [0, 0, 1, 1]
    limit = float(after.sort().values[1])  # two are as close as this
    some = make("nse", lm, layers=[0, 1], min_distance=limit, **WEIGHT).edit(cases)
    assert torch.equal(layers_of(some)[2]["taken"], after > limit)
    assert some.delta[0].dense().norm() > 0
    none = make("nse", lm, layers=[0, 1], min_distance=float(after.max()), **WEIGHT).edit(cases)
    once = make("nse", lm, layers=[0, 1], max_iterations=2, **WEIGHT).edit(cases)
    assert close(none.delta, once.delta)


def test_what_is_too_far_is_not_written_and_a_case_of_nothing_else_says_so():
    lm, cases = tiny("gpt2"), [requests(2), requests(1, template=1)]
    found = layers_of(make("nse", lm, layers=[0], **WEIGHT).edit(cases))[0]["distance"]
    limit = float(found[:2].max())
    result = make("nse", lm, layers=[0], max_distance=limit, **WEIGHT).edit(cases)
    first = layers_of(result)[0]
    assert torch.equal(first["taken"], found < limit)
    assert not first["K"][0, int(found[:2].argmax())].any()
    result = make("nse", lm, layers=[0], max_distance=0.9 * float(found.min()), **WEIGHT).edit(cases)
    assert all("raise max_distance" in reason for reason in result.reasons)
    assert not any(delta.dense().any() for delta in result.delta)


def test_values_are_those_of_the_unedited_model_and_keys_those_of_the_edited_one():
    lm, cases, more = tiny("llama"), [requests(2)], [requests(2, template=1)]
    editor = make("nse", lm, layers=[0, 1], min_distance=1e-3, neuron_share=0.8, **WEIGHT)
    first = editor.edit(cases)
    second = editor.edit(more, first.delta, first.memory)
    assert torch.equal(second.diagnostics[0]["z"], editor.edit(more).diagnostics[0]["z"])
    batch = RequestBatch.of(more, "joint", lm.device)
    for layer in (0, 1):
        keys = editor._look(batch, layer, first.delta + second.delta, None)[0]
        known = PreviousKeys.read(first.memory, layer, lm.device).add(keys[None].double())
        ours = PreviousKeys.read(second.memory, layer, lm.device)
        assert off(ours.total(keys[None].double()), known.total(keys[None].double())) < 1e-9
    assert make("nse", lm, layers=[0], previous_keys=False).edit(cases, EMPTY).memory is None


# --- LyapLock -----------------------------------------------------------------------------------------------
def edits():
    """Three edits of two cases, the second case with other facts."""
    return [[requests(6)[i : i + 1], requests(6, template=1)[i : i + 1]] for i in range(3)]


MIXED = {"queue_step_unit": "loss", "queue_start_unit": "one", "queue_floor_unit": "loss"}


@pytest.mark.parametrize(("share", "units"), [(1, {}), (10**9, {}), (1, MIXED)])
def test_later_edits_are_those_of_the_released_form(share, units, monkeypatch):
    """With whole matrices, as the released code has them: S, T with the weights W, and W_0 in every edit.

    Earlier keys are kept as they are, or in sums from the first edit on.
    """
    monkeypatch.setattr(written, "SHARE", share)
    lm = tiny("llama")
    own = {"edit_weight": 2.0, "queue_drift": 0.01, "queue_start": 1.5, "queue_step": 0.8, "queue_floor": 0.5}
    own |= units
    editor, case = make("lyaplock", lm, **STRONG, **own), 1
    s, state, memory = editor.settings, (), None
    base: dict[int, float] = {}
    Z: dict[int, float] = {}

    def unit(name, loss):
        return {"root": (s.alpha * loss) ** 0.5, "loss": s.alpha * loss, "one": 1.0}[name]

    S = {layer: torch.zeros_like(editor.factor(layer).matrix) for layer in (0, 1)}
    T = {layer: torch.zeros_like(lm.weight(lm.projection(layer)).double()) for layer in (0, 1)}
    for number, cases in enumerate(edits()):
        result = editor.edit(cases, state, memory)
        for found in result.diagnostics[1:]:
            layer = found["layer"]
            module, C = lm.projection(layer), editor.factor(layer).matrix
            K, R = found["K"][case], found["R"][case]
            W0 = lm.weight(module).double()
            before = change_of(module, state)
            W = W0 if before is None else W0 + before.dense()[case]
            w, V = s.mom2_weight, 1.0
            if number:
                w *= s.queue_step / unit(s.queue_step_unit, base[layer]) * Z[layer]
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
            Z.setdefault(layer, s.queue_start * unit(s.queue_start_unit, base[layer]))
            Z[layer] += s.queue_step / unit(s.queue_step_unit, base[layer]) * (loss - allowed) + s.queue_drift
            Z[layer] = max(Z[layer], s.queue_floor * unit(s.queue_floor_unit, base[layer]))
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
    first = empty.after(torch.tensor([1.0, 0.0]).double(), settings)  # 2 + (1 - 4) / 2, at least 2
    assert first.length.tolist() == [2.0, 0.0]
    assert first.weight(settings).tolist() == [1.0, 1.0]  # the second case lost nothing: it starts again
    later = first.after(torch.tensor([10.0, 1.0]).double(), settings)  # 2 + (10 - 4) / 2
    assert later.length.tolist() == [5.0, 2.0]
    assert later.weight(settings).tolist() == [2.5, 1.0]
    assert later.after(torch.tensor([2.0, 1.0]).double(), settings).length.tolist() == [4.0, 2.0]


def test_a_queue_in_units_of_the_loss_starts_with_the_same_weight():
    units = dict.fromkeys((f"queue_{name}_unit" for name in ("step", "start", "floor")), "loss")
    settings = settings_of("lyaplock", {"layers": [0], "alpha": 4.0, **units})
    first = Queue.read(None, 0, 1, torch.device("cpu")).after(torch.tensor([2.0]).double(), settings)
    assert first.length.tolist() == [8.0]  # 8 + (2 - 8) / 8, at least 8
    assert first.weight(settings).tolist() == [1.0]
    later = first.after(torch.tensor([12.0]).double(), settings)  # 8 + (12 - 8) / 8
    assert later.length.tolist() == [8.5]
    assert later.weight(settings).tolist() == [8.5 / 8]


def test_rows_that_fill_up_are_no_keys():
    kept = Written().add(
        torch.eye(32, dtype=torch.float64)[None, :2] * torch.tensor([[1.0], [0.0]]), torch.ones(1, 2, 3)
    )
    assert kept.keys.shape == (1, 1, 32)


# --- SimIE --------------------------------------------------------------------------------------------------
BASE = {"steps": 6, "lr": 0.5, "clamp": 4.0}


def uneven_edits():
    """The same, but the second case has two requests at first."""
    first, *others = edits()
    return [[first[0], requests(2, template=1)], *others]


def inputs(lm, layer, case):
    """Return the inputs of a layer's matrix at every token of texts and targets, one text at a time."""
    found = []
    for request in case:
        ids = torch.tensor(lm.encode([f"{request.text} {request.target_new}"]))
        with torch.no_grad(), record_activations(lm, inputs=[lm.projection(layer)]) as seen:
            lm.run(ids, None)
        found.append(seen["in", lm.projection(layer)][0])
    return torch.cat(found).double()


@pytest.mark.parametrize(("base", "layers"), [("rome", [1]), ("memit", [0, 1])])
@pytest.mark.parametrize("share", [1, 10**9])  # earlier keys as they are, and as a matrix
def test_weights_after_each_edit_are_those_of_the_recursion(base, layers, share, monkeypatch):
    monkeypatch.setattr(previous_keys, "SHARE", share)
    lm = tiny("llama")
    editor = make("simie", lm, layers=layers, base=base, base_settings=BASE, ridge=0.7)
    alone = make(base, lm, **{**BASE, "layers": layers})
    state, memory = (), None
    weights = {layer: torch.zeros_like(lm.weight(lm.projection(layer))).double() for layer in layers}
    P = {layer: 0.7 * torch.eye(lm.weight(lm.projection(layer)).shape[1]).double() for layer in layers}
    for cases in uneven_edits():
        result = editor.edit(cases, state, memory)
        state, memory = state + result.delta, result.memory
        own = settings_of(base, BASE, {"layers": layers})
        plain = method_of(base).make(lm, own, alone.artifacts, 0, alone.contexts).edit(cases[1:])
        for layer in layers:
            K = inputs(lm, layer, cases[1])
            aim = change_of(lm.projection(layer), plain.delta).dense()[0].double()
            P[layer] = P[layer] + K.T @ K
            weights[layer] = weights[layer] + (aim - weights[layer]) @ K.T @ K @ torch.linalg.inv(P[layer])
            found = change_of(lm.projection(layer), state).dense()[1]
            assert off(found, weights[layer]) < 1e-6


def test_a_change_of_a_bias_is_refused():
    editor = make("simie", tiny("gpt2"), layers=[1], base_settings=BASE)
    found = editor.base.edit([requests(1)])
    weight = found.delta[0].dense()
    object.__setattr__(
        found, "delta", (Dense(found.delta[0].module, weight, torch.ones(1, weight.shape[1])),)
    )
    editor.base.edit = lambda cases: found
    with pytest.raises(ValueError, match="rome changes more than matrices"):
        editor.edit([requests(1)])
