"""Editors of several layers on recorded cases: values, keys, updates of every layer, what is remembered."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.methods import method_of
from aftershock.editors.multi_layer import AdjustedKeys, MultiLayerEditor
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.lm.edits import State
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.null_space import Spectrum, decompose
from recorded import CLOSED_FORM, DELTA, EXACT, VALUE, Check, NotCoveredError, Recorded, relative
from recorded_edits import loss_checks, state_checks, tokens_check, using, value_checks
from recorded_settings import settings_from

FLOAT32_SOLVED = 5e-5  # relative; 1.1e-5 seen in NAS, whose second call has earlier keys
ROUNDINGS = 4.0
"""Roundings of float32 between a model's weights and its keys that two processors may do otherwise."""


@contextmanager
def decided(
    editor: MultiLayerEditor, keys: Sequence[Tensor], function: str = "adjust_keys", place: int = 1
) -> Iterator[list[Check]]:
    """Inside, an editor's layers take the recorded keys, (d, n) in order, where the rounding of keys decides.

    Our keys agree with the recorded ones up to the last bits of float32. Where these alone change the
    solution by more than the tolerance of an edit, another processor cannot give the recorded one from its
    own keys. The checks say that it was so, how far our keys are off, and how far the solution from them is
    from the one from the recorded keys, against what rounding can do. `function` of the editor solves a
    layer; its argument number `place` are the keys.
    """
    own, recorded, checks = getattr(editor, function), iter(keys), []

    def solve(*given: Any) -> AdjustedKeys:
        found = given[place]
        wanted = next(recorded).T[None].to(found)
        solved, ours = (own(*given[:place], k, *given[place + 1 :]) for k in (wanted, found))
        loose = float(solved.diagnostics.get("rounding", 0.0))
        if loose <= DELTA or found.shape != wanted.shape:
            return ours
        checks.append(Check("keys recorded", 0.0, EXACT))
        checks.append(Check("K", relative(found, wanted), CLOSED_FORM))
        checks.append(Check("adj_k by own keys", relative(ours.rows, solved.rows), ROUNDINGS * loose))
        return solved

    with patch.object(editor, function, solve):
        yield checks


def calls_of(case: Recorded) -> list[slice]:
    """The requests of each call: values are optimised for all of them before the first layer."""
    sizes, after_layer = [0], False
    for entry in case.inputs["intermediate"]:
        is_value = "target_ids" in entry
        if is_value and after_layer:
            sizes.append(0)
        sizes[-1] += is_value
        after_layer = not is_value
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def make(case: Recorded, method: str, **changes: Any) -> MultiLayerEditor:
    """The editor of a case; `changes` are settings that no recorded hyperparameter stands for."""
    hparams = dict(case.inputs["hparams"])
    settings = settings_from(method, hparams, case.lm, changes)
    made = {"moments": lambda: case.moments, "null_space": lambda: decompose(case.moments)}
    artifacts = {name: made[name]() for name in method_of(method).method.needs(settings)}
    return method_of(method).load()(
        case.lm, settings, artifacts, contexts=case.inputs.get("context_templates", [["{}"]])
    )


def check_edits(
    case: Recorded, editor: MultiLayerEditor, given: MultiLayerEditor | None = None
) -> Generator[Check, None, tuple[list[EditResult], list[Memory | None]]]:
    """Each call of a case edits some of the requests at once, on top of the calls before; return these.

    `given` is the editor whose closed form is compared, where that takes another recorded input.
    """
    lm, calls = case.lm, calls_of(case)
    other = yield from tokens_check(case)
    names = [x["name"] for x in case.inputs["intermediate"] if f"{x['name']}.keys" in case.tensors]
    with using(other), decided(editor, [case.tensors[f"{name}.keys"] for name in names]) as decisions:
        results, states, memories = run_calls(case, editor, calls)
    yield from decisions
    optimised, layers = case.optimised, iter(names)
    known = {layer: PreviousKeys() for layer in editor.settings.layers}
    for call, result in zip(calls, results, strict=True):
        solved, *spread = result.diagnostics
        for i in range(len(case.requests[call])):
            yield from value_checks(solved, i, *next(optimised))
        for found in spread:
            yield from layer_checks(case, given or editor, found, case.part(next(layers)), known)
    yield from between_checks(case, editor, states, memories)
    yield from state_checks(case, lm, states[-1])
    return results, memories


def run_calls(
    case: Recorded, editor: MultiLayerEditor, calls: Sequence[slice]
) -> tuple[list[EditResult], list[State], list[Memory | None]]:
    """The result of each call on top of those before it, with the state and the memory after it."""
    state: State = ()
    memory: Memory | None = None
    results, states, memories = [], [], []
    for call in calls:
        results.append(editor.edit([case.requests[call]], state, memory))
        state, memory = state + results[-1].delta, results[-1].memory
        states.append(state)
        memories.append(memory)
    return results, states, memories


def layer_checks(
    case: Recorded,
    editor: MultiLayerEditor,
    found: Mapping[str, Any],
    wanted: Mapping[str, Tensor],
    known: dict[int, PreviousKeys],
) -> Iterator[Check]:
    """One layer of one call; adds its recorded keys to those `known`."""
    layer = found["layer"]
    yield Check("K", relative(found["K"][0].T, wanted["keys"]), VALUE)
    yield Check("R", relative(found["R"][0].T, wanted["resid"]), VALUE)
    if "targets" in wanted:
        yield Check("residual", relative(found["residual"].T, wanted["targets"]), VALUE)
    keys = wanted["keys"].T[None].double()
    closed = editor.adjust_keys(layer, keys, known[layer]).rows[0].T
    if "adj_k" in wanted:
        yield Check("adj_k", relative(found["adj_k"][0].T, wanted["adj_k"]), VALUE)
        yield Check("adj_k given inputs", relative(closed, wanted["adj_k"]), CLOSED_FORM)
    if "upd_raw" in wanted:
        update = case.ours(wanted["upd_raw"]).T  # (d_in, d_out)
        # one that was solved for in float32 has the rounding of an LU of the whole matrix
        exact = CLOSED_FORM if update.dtype == torch.float64 else FLOAT32_SOLVED
        yield Check("update given inputs", relative(closed @ wanted["resid"].T.double(), update), exact)
    if (remembered := editor.remembered_keys(layer, keys)) is not None:
        known[layer] = known[layer].add(remembered)


def between_checks(
    case: Recorded, editor: MultiLayerEditor, states: Sequence[State], memories: Sequence[Memory | None]
) -> Iterator[Check]:
    """Weights and remembered keys after each call, where they are recorded."""
    lm = case.lm
    for number, (state, memory) in enumerate(zip(states, memories, strict=True), 1):
        after = case.part(f"after_call{number}")
        for module in {delta.module for delta in state if f"{delta.module}.weight" in after}:
            weight = case.ours(after[f"{module}.weight"].double())
            change = sum(delta.dense()[0].double() for delta in state if delta.module == module)
            yield Check("dW between", relative(change, weight - lm.weight(module).double()), DELTA)
        sums = case.part(f"seq_cache_after_call{number}")
        stacked = case.tensors.get(f"cache_c_after_call{number}")
        for place, layer in enumerate(editor.settings.layers):
            wanted = sums.get(f"layer{layer}") if stacked is None else stacked[place]
            if wanted is None:
                continue
            kept = PreviousKeys.read(memory, layer, lm.device)
            none = torch.zeros(1, 0, len(wanted), dtype=torch.float64)
            ours, wanted = kept.total(none)[0], wanted.double()
            if ours.shape != wanted.shape:  # in coordinates of the null space
                basis = editor.basis(layer)
                wanted = basis.T @ wanted @ basis
            yield Check("S", relative(ours, wanted), VALUE)


def edited_by(method: str, **changes: Any) -> Callable[[Recorded], Iterator[Check]]:
    """The check of cases that a method edits, with settings that no recorded hyperparameter stands for.

    MEMIT's multi-label edit is the first request, then all others at once.
    """
    return lambda case: check_edits(case, make(case, method, **changes))


def check_emmet(case: Recorded) -> Iterator[Check]:
    """EMMET of its authors, and of EasyEdit."""
    yield from check_edits(case, make(case, "emmet", damp_single="EasyEdit" in case.inputs["peer"]))


def check_alphaedit(case: Recorded) -> Iterator[Check]:
    """AlphaEdit in the null space, and in the released form."""
    editor = make(case, "alphaedit")
    for layer, wanted in zip(editor.settings.layers, case.tensors["P"], strict=True):
        basis = editor.basis(layer)
        yield Check("P", relative(basis @ basis.T, wanted), CLOSED_FORM)
    recorded = zip(editor.settings.layers, case.tensors["P"], strict=True)
    outside = {layer: Spectrum.of(torch.eye(len(P)) - P) for layer, P in recorded}
    for variant in ("paper", "released"):
        given = make(case, "alphaedit", variant=variant, threshold=0.5)  # P has eigenvalues 0 and 1
        given.artifacts["null_space"] = outside
        yield from check_edits(case, make(case, "alphaedit", variant=variant), given)


# --- PMET ---------------------------------------------------------------------------------------------------
def check_pmet(case: Recorded) -> Iterator[Check]:
    """PMET; the requests of a case are one edit."""
    lm = case.lm
    other = yield from tokens_check(case)
    hparams = dict(case.inputs["hparams"])
    modules = _modules(lm, hparams)
    settings = replace(settings_from("pmet", hparams, lm), modules=modules, variant="released")
    artifacts = {"moments": case.moments, "attention_moments": case.moments_of(lm.attention_projection)}
    editor = method_of("pmet").load()(lm, settings, artifacts, contexts=case.inputs["context_templates"])
    keys = [
        case.tensors.get(f"{x['name']}.keys") for x in case.inputs["intermediate"] if "target_ids" not in x
    ]
    by_module = len(keys) == len(settings.layers) * len(modules) and all(k is not None for k in keys)
    deciding = decided(editor, keys, "_adjust", 2) if by_module else nullcontext([])
    with using(other), deciding as decisions:
        result = editor.edit([case.requests])
    yield from decisions
    solved, *written = result.diagnostics
    for i, (wanted, trace) in enumerate(case.optimised):
        for row, part in enumerate(("attn", "mlp")):
            for theirs, ours in {"target_init": "v0", "delta": "delta", "target": "z"}.items():
                yield Check(ours, relative(solved[ours][i, row], wanted[f"{theirs}_{part}"]), VALUE)
        yield Check("log_p0", relative(solved["log_p0"][i], wanted["kl_log_probs_init"]), VALUE)
        yield from loss_checks(solved["losses"][:, i], trace)
    ours = {found["module"]: found for found in written}
    for recorded in case.inputs["intermediate"]:
        module, wanted = recorded["name"].partition(".")[2], case.part(recorded["name"])
        if "target_ids" in recorded or "keys" not in wanted:
            continue
        yield Check("K", relative(ours[module]["K"][0].T, wanted["keys"]), VALUE)
        yield Check("residual", relative(ours[module]["residual"].T, wanted["targets"]), VALUE)
    yield from state_checks(case, lm, result.delta)


def _modules(lm: LanguageModel, hparams: dict[str, Any]) -> tuple[str, ...]:
    """The settings `modules` of hyperparameters that name modules, which are taken out."""
    parts = {lm.family.attention_projection: "attention", lm.family.projection: "mlp"}
    written = hparams.pop("rewrite_module_tmps")
    for module in (*written, hparams.pop("rewrite_module_tmp", written[0])):
        if module not in parts:
            raise NotCoveredError(f"rewrite_module_tmps {module}")
    return tuple(parts[module] for module in written)
