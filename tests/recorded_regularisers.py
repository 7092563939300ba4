"""Our regularisers on recorded cases: RECT behind MEMIT, PRUNE and SPHERE on recorded changes."""

from collections.abc import Iterator

import torch

from aftershock.editors.regularise import Weight, prune, sphere
from aftershock.editors.regularised import Regularised
from aftershock.editors.regularisers import settings_of_entry
from aftershock.lm.edits import EMPTY, Dense, State
from recorded import CLOSED_FORM, DELTA, EXACT, VALUE, Check, NotCoveredError, Recorded, relative, without
from recorded_edits import behaviour_checks, delta_checks, loss_checks, tokens_check, using
from recorded_multi_layer import decided, make
from recorded_settings import settings_from

FUNCTIONS = ("log", "log1_2", "log1_5", "log2", "linear")
"""PRUNE's functions as the released code calls them, and we."""
OF_SPHERE = {"cumulative_ratio": "share", "suppression_strength": "strength"}


def check_rect(case: Recorded) -> Iterator[Check]:
    """RECT behind MEMIT: masks of all layers after all layers."""
    lm, (case, own) = case.lm, without(case, "k_percent", "epsilon")
    entry = {"rect": {"keep": own["k_percent"], "epsilon": own["epsilon"]}}
    token_check, other = tokens_check(case)
    yield token_check
    editor = make(case, "memit")
    names = [x["name"] for x in case.inputs["intermediate"] if f"{x['name']}.keys" in case.tensors]
    results = []
    for each in (editor, Regularised(editor, [entry])):
        with using(other), decided(editor, [case.tensors[f"{name}.keys"] for name in names]) as decisions:
            results.append(each.edit([case.requests]))
        yield from decisions
    whole, result = results
    solved = result.diagnostics[0]
    for i, (recorded, trace) in enumerate(zip(case.optimisations, case.outputs["trace"], strict=True)):
        wanted = case.part(recorded["name"])
        yield Check("z", relative(solved["z"][i], wanted["target"]), VALUE)
        yield from loss_checks(solved["losses"][:, i], trace)
    unmasked = case.part("unmasked")
    for before, after in zip(whole.delta, result.delta, strict=True):
        name = f"{before.module}.weight"
        yield Check("unmasked", relative(before.dense()[0], case.ours(unmasked[name])), DELTA)
        kept = case.ours(case.part("delta")[name]) != 0
        yield Check("entries kept otherwise", float((kept != (after.dense()[0] != 0)).sum()), EXACT)
    yield from delta_checks(case, lm, result.delta)
    yield from behaviour_checks(case, lm, result.delta)


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
    yield from delta_checks(case, lm, state)
    yield from behaviour_checks(case, lm, state)


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
