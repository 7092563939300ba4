"""LyapLock on recorded cases: what it remembers of each edit beside what every editor of layers has."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from aftershock.editors.lyaplock.edit import LyapLock
from aftershock.editors.lyaplock.written import Queue, Written
from recorded import VALUE, Check, NotCoveredError, Recorded, relative
from recorded_edits import tokens_check, using
from recorded_multi_layer import calls_of, check_edits, make, run_calls


def check_lyaplock(case: Recorded) -> Iterator[Check]:
    """Calls one after the other, with a queue for each layer."""
    hparams = {**case.inputs["hparams"], **_started(case.inputs["lyaplock"])}
    case = replace(case, inputs={**case.inputs, "hparams": hparams})
    editor = make(case, "lyaplock")
    assert isinstance(editor, LyapLock)
    yield from check_edits(case, editor)
    with using(tokens_check(case)[1]):
        results, _, memories = run_calls(case, editor, calls_of(case))
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


def _started(given: Mapping[str, Any]) -> dict[str, Any]:
    """The released code's start of its queue: numbers, and "<n>_sqrtD" and "<n>sqrtD" by the loss allowed."""
    found = dict(given)
    for name, unit in (("a", "_sqrtD"), ("Z", "sqrtD"), ("zmax", "sqrtD")):
        if not str(given[name]).endswith(unit) or (unit == "sqrtD" and "_" in given[name]):
            raise NotCoveredError(f"{name} {given[name]}")
        found[name] = float(given[name].removesuffix(unit))
    return found


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
    root = float((settings.alpha * queue.base[0]).sqrt())
    found = {"D_base": float(queue.base[0]), "Z": float(queue.length[0])}
    found |= {"a": settings.queue_step / root, "zmax": settings.queue_floor * root}
    for name, value in found.items():
        yield Check(name, abs(value / wanted[name] - 1.0), 2 * VALUE)
