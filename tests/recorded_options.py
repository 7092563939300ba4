"""Regularisers and options of values on recorded cases: RECT, PRUNE and SPHERE; NAS and CORE."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contexts import PLAIN
from aftershock.editors.regularise import Weight, prune, sphere
from aftershock.editors.regularised import Regularised
from aftershock.editors.regularisers import settings_of_entry
from aftershock.lm.edits import EMPTY, Dense, State
from aftershock.lm.optimisation.objective import trimmed_mean
from aftershock.lm.optimisation.values import solve_values
from recorded import CLOSED_FORM, DELTA, EXACT, VALUE, Check, NotCoveredError, Recorded, relative, without
from recorded_edits import state_checks, tokens_check, using, value_checks
from recorded_multi_layer import check_edits, decided, make
from recorded_settings import settings_from

FUNCTIONS = ("log", "log1_2", "log1_5", "log2", "linear")
"""PRUNE's functions as the released code calls them, and we."""
OF_SPHERE = {"cumulative_ratio": "share", "suppression_strength": "strength"}


def check_rect(case: Recorded) -> Iterator[Check]:
    """RECT behind MEMIT: masks of all layers after all layers."""
    lm, (case, own) = case.lm, without(case, "k_percent", "epsilon")
    entry = {"rect": {"keep": own["k_percent"], "epsilon": own["epsilon"]}}
    other = yield from tokens_check(case)
    editor = make(case, "memit")
    names = [x["name"] for x in case.inputs["intermediate"] if f"{x['name']}.keys" in case.tensors]
    results = []
    for each in (editor, Regularised(editor, [entry])):
        with using(other), decided(editor, [case.tensors[f"{name}.keys"] for name in names]) as decisions:
            results.append(each.edit([case.requests]))
        yield from decisions
    whole, result = results
    solved = result.diagnostics[0]
    for i, (wanted, trace) in enumerate(case.optimised):
        yield from value_checks(solved, i, wanted, trace)
    unmasked = case.part("unmasked")
    for before, after in zip(whole.delta, result.delta, strict=True):
        name = f"{before.module}.weight"
        yield Check("unmasked", relative(before.dense()[0], case.ours(unmasked[name])), DELTA)
        kept = case.ours(case.part("delta")[name]) != 0
        yield Check("entries kept otherwise", float((kept != (after.dense()[0] != 0)).sum()), EXACT)
    yield from state_checks(case, lm, result.delta)


def check_prune(case: Recorded) -> Iterator[Check]:
    """PRUNE of the recorded edited weights."""
    lm, (function, _, base) = case.lm, case.inputs["reduce"].partition(", base ")
    if function not in FUNCTIONS or base not in ("", "edited"):
        raise NotCoveredError(f"reduce {case.inputs['reduce']}")
    _, settings = settings_of_entry({"prune": {"function": function, "base": base or "original"}})
    state: State = EMPTY
    for name, edited in case.part("edited").items():
        module = name.removesuffix(".weight")
        original = lm.weight(module)
        change = case.ours(edited).double() - original.double()
        weight = Weight(original)
        found = prune(Dense(module, change[None]), weight, settings)
        state += (Dense(module, found.dense().to(lm.dtype)),)
        largest = (
            torch.tensor([weight.known["largest"]]),
            torch.tensor([case.outputs["singular_values"][name]["sigma0"]]),
        )
        yield Check("sigma0", relative(*largest), CLOSED_FORM)
        wanted = case.ours(case.part("delta")[name])
        yield Check("dW given inputs", relative(found.dense()[0], wanted), CLOSED_FORM)
    yield from state_checks(case, lm, state)


def check_sphere(case: Recorded) -> Iterator[Check]:
    """SPHERE of the recorded updates: the method that makes them, AlphaEdit, has cases of its own."""
    lm, hparams = case.lm, dict(case.inputs["hparams"])
    given = {ours: hparams.pop(theirs) for theirs, ours in OF_SPHERE.items()}
    settings_from("alphaedit", hparams, lm)  # names what is not known
    _, settings = settings_of_entry({"sphere": {**given, "variant": "released"}})
    modules = [lm.projection(layer) for layer in hparams["layers"]]
    steps = [(call, module) for call in range(len(case.inputs["calls"])) for module in modules]
    updates = [x for x in case.inputs["intermediate"] if f"{x['name']}.upd_raw" in case.tensors]
    changed = dict.fromkeys(modules, 0.0)
    for number, ((call, module), recorded) in enumerate(zip(steps, updates, strict=True)):
        update = case.ours(case.tensors[f"{recorded['name']}.upd_raw"])
        current = lm.weight(module)
        if call:
            current = case.ours(case.tensors[f"after_call{call}.{module}.weight"])
        weight = Weight(current, transposed=lm.family.transposed)
        found = sphere(Dense(module, update[None].to(lm.dtype)), weight, settings).dense()[0]
        wanted = case.ours(case.tensors[f"proj{number:02}.delta"])
        yield Check("dW given inputs", relative(found, wanted), CLOSED_FORM)
        (directions,) = weight.known.values()
        taken = case.outputs["directions"][number]
        yield Check("directions", float(abs(directions.shape[1] - taken)), EXACT)
        changed[module] = changed[module] + found
    for module, change in changed.items():
        wanted = case.ours(case.part("delta")[f"{module}.weight"])
        yield Check("dW", relative(change, wanted), DELTA)


# --- options of values --------------------------------------------------------------------------------------
LIMIT = 2.0  # norms from which on a value is left out (constant of the released code)
SHARES = (0.95, 0.9)  # of the norms that the released code takes the mean of, and that a case takes


def check_nas(case: Recorded) -> Iterator[Check]:
    """AlphaEdit with values of one norm, or the norms alone where a case has no edit."""
    # whether the norm is in use, and the number of values that it was averaged over
    case, taken = without(case, "use_nas", "nas_restart")
    if not case.part("delta"):
        yield from _norm_checks(case)
        return
    options: dict[str, Any] = {"variant": "released"}  # solved as the release does, in float32
    if taken.get("use_nas", True) and (norm := case.inputs.get("n_bar") or 0) > 0:
        options |= {"norm_anchor": norm, "norm_anchor_limit": LIMIT}
    yield from check_edits(case, make(case, "alphaedit", **options))


def check_core(case: Recorded) -> Iterator[Check]:
    """MEMIT with a penalty on contexts that differ; these are recorded."""
    case, hparams = without(case, "reg_lambda", "layer_range", "context", "ctx_num", "ctx_len", "ctx_top_k")
    if hparams.get("context") is not None:  # then each request has contexts of its own
        raise NotCoveredError(f"context {hparams['context']}")
    options = {"context_penalty": hparams["reg_lambda"], "context_layers": hparams["layer_range"]}
    yield from check_edits(case, make(case, "memit", **options))


def _norm_checks(case: Recorded) -> Iterator[Check]:
    """The norm of each value optimised by itself, and their mean without the largest.

    A case also has the norms of values that were optimised in batches, on their mean loss, which are others;
    its mean may be of either. It has to hold ours among its rows of norms, and our mean of one of the rows
    among its numbers.
    """
    method = "alphaedit" if "L2" in case.inputs["hparams"] else "memit"
    editor = make(case, method)
    found = solve_values(case.lm, case.requests, [PLAIN], editor.objective(max(editor.settings.layers)))
    rows, numbers = _numbers(case)
    rows = [row for row in rows if len(row) == len(case.requests)]
    if not rows or not numbers:
        raise NotCoveredError("a case without an edit and without norms of values")
    yield Check("norms", min(relative(found.norms, row) for row in rows), VALUE)
    means = [trimmed_mean(row.double(), share) for row in rows for share in SHARES]
    error = min(abs(number / mean - 1) for number in numbers for mean in means)
    yield Check("mean norm given norms", error, CLOSED_FORM)


def _numbers(case: Recorded) -> tuple[list[Tensor], list[float]]:
    """All rows of numbers, and all numbers by themselves, that a case recorded."""
    rows, numbers = [], []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for inner in value.values():
                look(inner)
        elif isinstance(value, float):
            numbers.append(value)
        elif isinstance(value, list) and all(isinstance(x, float) for x in value):
            rows.append(torch.tensor(value))
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look({**case.inputs, **case.outputs})
    rows += [tensor for tensor in case.tensors.values() if tensor.ndim == 1]
    numbers += [float(tensor) for tensor in case.tensors.values() if tensor.ndim == 0]
    return rows, numbers
