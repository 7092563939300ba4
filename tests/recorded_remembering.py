"""NSE, LyapLock and SimIE on recorded cases: passes and neurons, queues, and the weights after each edit."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from aftershock.editors.lyaplock.edit import LyapLock
from aftershock.editors.lyaplock.written import Queue, Written
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.multi_layer import MultiLayerEditor
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.settings import as_values
from aftershock.lm.edits import State, join
from recorded import CLOSED_FORM, DELTA, EXACT, VALUE, Check, NotCoveredError, Recorded, absolute, relative
from recorded_edits import flat, state_checks, tokens_check, using, value_checks
from recorded_multi_layer import between_checks, check_edits, make, run_calls
from recorded_settings import NOWHERE, settings_from


def check_nse(case: Recorded) -> Iterator[Check]:
    """Calls one after the other; all values are those of the unedited model."""
    editor = make(case, "nse")
    other = yield from tokens_check(case)
    ends = torch.tensor(case.inputs["calls"]).cumsum(0).tolist()
    calls = [slice(end - size, end) for end, size in zip(ends, case.inputs["calls"], strict=True)]
    with using(other):
        results, states, memories = run_calls(case, editor, calls)
    recorded = [x for x in case.inputs["intermediate"] if "neurons" in x]
    optimised, layers, memory, distances = case.optimised, iter(recorded), None, []
    for call, result, after in zip(calls, results, memories, strict=True):
        solved, *spread = result.diagnostics
        for i in range(len(case.requests[call])):
            yield from value_checks(solved, i, *next(optimised))
        for found in (found for found in spread if "pass" in found and bool(found["taken"].any())):
            entry = next(layers)
            yield from _layer_checks(case, editor, found, entry, memory)
            if found["layer"] == min(editor.settings.layers):
                distances.append(found["distance"])
        memory = after
    yield Check("layers", float(len(list(layers))), EXACT)
    if len(calls) == 1:
        for ours, theirs in zip(distances, case.outputs["dist_at_pass"], strict=False):
            yield Check("distance", absolute(ours, theirs) / max(theirs), VALUE)
    yield from between_checks(case, editor, states, memories)
    yield from state_checks(case, case.lm, states[-1])


def _layer_checks(
    case: Recorded, editor: MultiLayerEditor, found: Mapping[str, Any], entry: Mapping[str, Any], memory: Any
) -> Iterator[Check]:
    """One layer of one pass."""
    layer, taken = found["layer"], found["taken"]
    wanted, same = case.part(entry["name"]), taken.nonzero()[:, 0].tolist() == list(entry["taken"])
    yield Check("taken", float((layer, found["pass"], same) != (entry["layer"], entry["pass"], True)), EXACT)
    neurons = entry["neurons"]  # by decreasing score
    yield Check("neurons", float(found["neurons"][0].nonzero()[:, 0].tolist() != sorted(neurons)), EXACT)
    yield Check("K", relative(found["K"][0][taken].T, wanted["keys"]), VALUE)
    yield Check("R", relative(found["R"][0][taken].T, wanted["resid"]), VALUE)
    yield Check("residual", relative(found["residual"][taken].T, wanted["targets"]), VALUE)
    yield Check("adj_k", relative(found["adj_k"][0][taken][:, neurons].T, wanted["adj_k"]), VALUE)
    previous = PreviousKeys.read(memory, layer, editor.lm.device)
    closed = editor.adjust_keys(layer, wanted["keys"].T[None].double(), previous).rows[0].T
    if memory is None:  # else ours are the earlier keys, not those recorded
        yield Check("adj_k given inputs", relative(closed[neurons], wanted["adj_k"]), CLOSED_FORM)
    update = case.ours(wanted["upd_raw"]).T
    yield Check("update given inputs", relative(closed @ wanted["resid"].T.double(), update), VALUE)


# --- LyapLock -----------------------------------------------------------------------------------------------
def check_lyaplock(case: Recorded) -> Iterator[Check]:
    """Calls one after the other, with a queue for each layer."""
    numbers, units = _queue(case.inputs["lyaplock"])
    case = replace(case, inputs={**case.inputs, "hparams": {**case.inputs["hparams"], **numbers}})
    editor = make(case, "lyaplock", **units)
    assert isinstance(editor, LyapLock)
    results, memories = yield from check_edits(case, editor)
    names = iter(x["name"] for x in case.inputs["intermediate"] if f"{x['name']}.left" in case.tensors)
    memory = None
    for number, (result, after) in enumerate(zip(results, memories, strict=True), 1):
        recorded = case.outputs["state_after_call"][number - 1]
        for change, found in zip(result.delta, result.diagnostics[1:], strict=True):
            layer, K = found["layer"], found["K"][0]
            S = _sums(memory, layer, K)[0]
            system = S + found["mom2_weight"] * editor.factor(layer).matrix + K.T @ K
            weight = editor.settings.edit_weight if number > 1 else 1.0
            left = weight * change.dense()[0].double() @ system
            yield Check("left", relative(left, case.tensors[f"{next(names)}.left"]), VALUE)
            yield from _memory_checks(case, editor, after, layer, f"after_call{number}", K)
            yield from _queue_checks(editor, after, layer, recorded[str(layer)])
        memory = after


def _queue(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recorded start of a queue as hyperparameters that are numbers, and our settings of their units.

    Recorded are numbers, "1_D" or "<n>_sqrtD" for the step, and "D" or "<n>sqrtD" for lengths.
    """
    numbers, units = dict(given), {}
    for name, setting, joint in (("a", "step", "_"), ("Z", "start", ""), ("zmax", "floor", "")):
        value, root = given[name], f"{joint}sqrtD"
        if not isinstance(value, str):
            unit, number = "one", value
        elif value == ("1_D" if joint else "D"):
            unit, number = "loss", 1.0
        elif value.endswith(root) and value.removesuffix(root).replace(".", "", 1).isdigit():
            unit, number = "root", float(value.removesuffix(root))
        else:
            raise NotCoveredError(f"{name} {value}")
        numbers[name], units[f"queue_{setting}_unit"] = number, unit
    return numbers, units


def _sums(memory: Any, layer: int, K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """S and T of the only case, T without W_0 S."""
    known = Written.read(memory, layer, K.device)
    S = torch.zeros(K.shape[1], K.shape[1], dtype=K.dtype) if known.S is None else known.S[0]
    T: Any = 0.0 if known.T is None else known.T[0]
    if known.keys is not None and known.values is not None:
        S, T = S + known.keys[0].T @ known.keys[0], T + known.values[0].T @ known.keys[0]
    return S, T


def _memory_checks(
    case: Recorded, editor: LyapLock, memory: Any, layer: int, when: str, K: torch.Tensor
) -> Iterator[Check]:
    S, T = _sums(memory, layer, K)
    if (wanted := case.tensors.get(f"S_{when}.layer{layer}")) is not None:
        yield Check("S", relative(S, wanted), VALUE)
    if (wanted := case.tensors.get(f"T_{when}.layer{layer}")) is not None:
        whole = T + editor.lm.weight(editor.lm.projection(layer)).double() @ S
        yield Check("T", relative(whole, wanted), VALUE)


def _queue_checks(editor: LyapLock, memory: Any, layer: int, wanted: Mapping[str, float]) -> Iterator[Check]:
    """D_b, Z, a and z_max, relative; losses are squares of changes."""
    queue, settings = Queue.read(memory, layer, 1, editor.lm.device), editor.settings
    allowed = settings.alpha * float(queue.base[0])
    units = {"root": allowed**0.5, "loss": allowed, "one": 1.0}
    found = {"D_base": float(queue.base[0]), "Z": float(queue.length[0])}
    found |= {
        "a": settings.queue_step / units[settings.queue_step_unit],
        "zmax": settings.queue_floor * units[settings.queue_floor_unit],
    }
    for name, value in found.items():
        yield Check(name, abs(value / wanted[name] - 1.0), 2 * VALUE)


# --- SimIE --------------------------------------------------------------------------------------------------
WITHOUT_EFFECT = {"solver", "fast", *NOWHERE}
"""Ways to solve the same equations, and where."""


def check_simie(case: Recorded) -> Iterator[Check]:
    """Each request is an edit, which the base method makes on the unedited model."""
    lm, hparams = case.lm, dict(case.inputs["hparams"])
    base, fixed = hparams.pop("base"), (hparams.pop("base_method"), hparams.pop("init_model"))
    ridge = hparams.pop("lamHyper")
    if fixed != ("ROME", True) or set(hparams) - WITHOUT_EFFECT:
        raise NotCoveredError(f"base_method, init_model {fixed}, {sorted(set(hparams) - WITHOUT_EFFECT)}")
    own = as_values(settings_from("rome", base, lm))
    layers = own.pop("layers")
    settings = settings_of("simie", {"base": "rome", "base_settings": own, "layers": layers, "ridge": ridge})
    editor = method_of("simie").make(
        lm, settings, {"moments": case.moments}, contexts=[flat(case.inputs["context_templates"])]
    )
    state: State = ()
    memory = None
    for number, request in enumerate(case.requests):
        result = editor.edit([[request]], state, memory)
        state, memory = state + result.delta, result.memory
        (tokens,) = case.inputs["intermediate"][number]["input_ids"]
        yield Check("tokens", float(lm.encode([f"{request.text} {request.target_new}"])[0] != tokens), EXACT)
        for found in result.diagnostics:
            weight = f"{lm.projection(found['layer'])}.weight"
            wanted = {
                name: case.tensors[f"edit{number}.{name}.{weight}"] for name in ("K", "P", "base_delta")
            }
            yield Check("base dW", relative(found["base"].dense()[0], case.ours(wanted["base_delta"])), DELTA)
            yield Check("K", relative(found["K"][0], wanted["K"]), VALUE)
            S = PreviousKeys.read(memory, found["layer"], lm.device).total(found["K"])[0]
            P = S + ridge * torch.eye(len(S), dtype=S.dtype)
            yield Check("P", relative(P, wanted["P"]), VALUE)
            change = sum(d.dense()[0] for d in join(state) if f"{d.module}.weight" == weight)
            after = case.ours(case.tensors[f"edit{number}.W_delta.{weight}"])
            yield Check("dW between", relative(change, after), DELTA)
    yield from state_checks(case, lm, state)
