"""UltraEdit, StableEdit and LocFT-BF on recorded cases of their released code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.locft.edit import AddedRow, LocFt
from aftershock.editors.ultraedit.edit import UltraEdit
from aftershock.editors.ultraedit.normaliser import EPS
from aftershock.lm.edits import EMPTY
from aftershock.lm.families import layer_number
from aftershock.lm.model import LanguageModel
from aftershock.requests import EditRequest
from obvious import in_batches
from recorded import (
    CLOSED_FORM,
    EXACT,
    LOGPROB,
    Check,
    NotCoveredError,
    Recorded,
    absolute,
    relative,
    unpadded,
)
from recorded_edits import behaviour_checks, delta_checks, probe_checks, state_checks
from recorded_settings import settings_by

SHIFT, WHITENED = 5e-5, 5e-3  # relative; the released code whitens in float32
LOSS = 1e-5  # absolute
OF_RUN = ("name_or_path", "name", "class_name", "edit_modules", "half", "n_edits", "batch_size")
OF_RUN += ("model", "dataset", "editor")
"""Where and on what UltraEdit ran, and hyperparameters that are read by themselves."""
OF_PORT = ("alg_name", "alg", "model_name", "model_class", "tokenizer_class", "tokenizer_name", "device")
OF_PORT += ("batch_size_once", "editor_batch_size", "silent", "max_length", "model_parallel", "results_dir")
OF_PORT += ("cache_dir", "save_checkpoint", "load_checkpoint", "dropout", "no_grad_layers", "archive")
"""The same of EasyEdit's port; mini-batches are recorded."""


# --- UltraEdit and StableEdit -------------------------------------------------------------------------------


def check_ultraedit(case: Recorded) -> Iterator[Check]:
    """Turns one after the other, each from the weights and the normaliser that the one before left."""
    if case.inputs["peer"].startswith("zjunlp/EasyEdit"):
        yield from _port_checks(case)
        return
    settings, size = _ultraedit_settings(case), case.inputs["hparams"]["dataset"]["n_edits"]
    tolerance = SHIFT if settings.normaliser == "diagonal" else WHITENED
    turns = [(f"turn{i}", settings, part) for i, part in enumerate(in_batches(case.requests, size))]
    if before := case.inputs.get("preheat_requests"):
        made = replace(case, inputs={**case.inputs, "requests": before}).requests
        heating = replace(settings, normaliser="preheat")
        turns = [(f"pre{i}", heating, part) for i, part in enumerate(in_batches(made, size))] + turns
    traces = iter(case.outputs["trace"])
    state, memory, failed = EMPTY, None, False
    for name, chosen, requests in turns:
        editor = UltraEdit(case.lm, chosen)
        yield from _token_checks(case, editor, name, requests)
        result = editor.edit([requests], state, memory)
        state, memory = (*state, *result.delta), result.memory
        recorded = [next(traces) for _ in editor.mini_batches([requests])]
        total = sum(r["loss"] * r["rows"] for r in recorded) / sum(r["rows"] for r in recorded)
        yield Check("losses", abs(result.losses[0] - total), LOSS)
        yield from _turn_checks(case, name, result, memory, tolerance)
        failed |= result.reasons[0] is not None
    if failed:  # the released code writes NaN into the weights, and this one writes nothing
        finite = [tensor.isfinite().any() for tensor in case.part("delta").values()]
        yield Check("failed", float(any(finite) or any(d.dense().any() for d in state)), EXACT)
        return
    yield from delta_checks(case, case.lm, state, tolerance)
    behaved = behaviour_checks(case, case.lm, state)
    yield from (replace(c, tolerance=LOGPROB if tolerance == SHIFT else WHITENED) for c in behaved)


def _ultraedit_settings(case: Recorded) -> Any:
    """Settings of the released code with its faults; the modules are those recorded."""
    hparams, lm = case.inputs["hparams"], case.lm
    if not case.inputs["peer"].startswith(("XiaojieGu/UltraEdit", "MINE-USTC/StableEdit")):
        raise NotCoveredError(case.inputs["peer"])
    _refuse_unknown({*hparams, *hparams["model"], *hparams["dataset"]} - {*OF_RUN})
    if hparams["model"]["half"]:
        raise NotCoveredError("half True")
    own = dict(hparams["editor"])
    stable = own.pop("name") == "stableedit"
    if own.pop("token") != "ans":
        raise NotCoveredError(f"token {hparams['editor']['token']}")
    own["batch_size"] = hparams["dataset"]["batch_size"]  # the editor's is that of chunks, without effect
    nowhere = ("cache_dir", "save_checkpoint", "load_checkpoint", "RunningMeanStd_mode", "preheat_mode")
    return settings_by(
        "ultraedit",
        own,
        nowhere,
        **_sites(lm, hparams["model"]["edit_modules"]),
        variant="released",
        normaliser="whitened" if stable else "diagonal",
    )


def _refuse_unknown(names: set[str]) -> None:
    if unknown := sorted(name for name in names if not name.startswith("num_seq")):  # lengths of runs
        raise NotCoveredError(", ".join(unknown))


def _sites(lm: LanguageModel, modules: Sequence[str]) -> dict[str, Any]:
    """The settings that choose these modules."""
    sites: dict[str, list[int]] = {}
    for module in modules:
        layer = layer_number(module)
        known = [s for s, template in lm.family.sites.items() if template.format(layer) == module]
        if not known:
            raise NotCoveredError(f"edit_modules {module}")
        sites.setdefault(known[0], []).append(layer)
    return {"modules": sites, "layers": sorted({layer for layers in sites.values() for layer in layers})}


def _port_checks(case: Recorded) -> Iterator[Check]:
    """EasyEdit's port: calls one after the other, each with a normaliser of its own."""
    lm, hparams = case.lm, _flat(case.inputs["hparams"])
    modules = [m.removesuffix(".weight") for m in hparams.pop("edit_modules")]
    if hparams.pop("half", False) or hparams.pop("token", "mask") == "ans":
        raise NotCoveredError("half True, or token ans")
    batches: dict[str, list[Mapping[str, Any]]] = {}
    for entry in case.inputs["intermediate"]:
        batches.setdefault(entry["name"].rpartition("mb")[0], []).append(entry)
    size = len(next(iter(batches.values()))[0]["input_ids"])
    own = {"lr": hparams.pop("lr"), "batch_size": size}
    _refuse_unknown(set(hparams) - {*OF_RUN, *OF_PORT})
    editor = UltraEdit(lm, settings_by("ultraedit", own, **_sites(lm, modules), rows="all"))
    requests, state = iter(case.requests), EMPTY
    for call, entries in batches.items():
        part = [next(requests) for entry in entries for _ in entry["input_ids"]]
        for batch, entry in zip(editor.mini_batches([part]), entries, strict=True):
            ours = [[*pair.prompt, *pair.target] for pair in batch.pairs]
            yield Check("tokens", float(ours != unpadded(entry)), EXACT)
            yield Check("labels", float(batch.labels != entry["labels"]), EXACT)
        result = editor.edit([part], state)
        state = (*state, *result.delta)
        for found in result.diagnostics:
            for name in "hg":
                keys = [f"{entry['name']}.{found['module']}.{name}" for entry in entries]
                if all(key in case.tensors for key in keys):
                    wanted = torch.cat([case.tensors[key] for key in keys])
                    yield Check(name, relative(found[name], wanted), CLOSED_FORM)
            if (wanted := case.tensors.get(f"{call}shift.{found['module']}")) is not None:
                yield Check("shift", relative(found["delta"].dense()[0].T, wanted), SHIFT)
    if next(requests, None) is not None:
        raise NotCoveredError("requests that no mini-batch has")
    yield from state_checks(case, lm, state, SHIFT)


def _flat(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters without groups, of which the original has three and the port none."""
    found = {name: value for name, value in hparams.items() if not isinstance(value, Mapping)}
    for group in ("model", "dataset", "editor"):
        found |= hparams.get(group, {})
    if "inner_params" in found:
        found["edit_modules"] = found.pop("inner_params")
    return found


def _token_checks(
    case: Recorded, editor: UltraEdit, turn: str, requests: Sequence[EditRequest]
) -> Iterator[Check]:
    """Mini-batches, their order, their tokens and which of these are predicted."""
    recorded = {entry["name"]: entry for entry in case.inputs["intermediate"]}
    for number, batch in enumerate(editor.mini_batches([requests])):
        wanted = recorded[f"{turn}.mb{number}"]
        labels = [[label for label in row if label != -100] for row in wanted["labels"]]
        theirs = list(zip(unpadded(wanted), labels, strict=True))
        ours = [([*p.prompt, *p.target[:-1]], list(p.target)) for p in batch.pairs]
        yield Check("tokens", float(ours != theirs), EXACT)


def _turn_checks(
    case: Recorded, turn: str, result: EditResult, memory: Memory | None, tolerance: float
) -> Iterator[Check]:
    """Rows, normaliser, and the solved change of every module of one turn."""
    lm, memory = case.lm, memory or {}
    for found in result.diagnostics:
        module = found["module"]
        for name in "hg":
            parts = [case.tensors.get(f"{turn}.mb{i}.{module}.{name}") for i in range(result.steps[0])]
            wanted = torch.cat([p for p in parts if p is not None])
            yield Check(name, relative(found[name], wanted), max(CLOSED_FORM, tolerance - SHIFT))
        shift, wanted = found["delta"].dense()[0].T, case.tensors[f"{turn}.shift.{module}"]
        if bool(wanted.isfinite().all()):
            yield Check("shift", relative(shift, wanted), tolerance)
            after = case.tensors.get(f"after_{turn}.{module}.weight")
            if after is not None and turn == "turn0" and not case.inputs.get("preheat_requests"):
                weight = lm.weight(module) + found["delta"].dense()[0]
                yield Check("after", relative(weight, case.ours(after)), CLOSED_FORM)
        else:
            yield Check("shift nan", float(bool(shift.isfinite().any())), EXACT)
    for key, wanted in case.part(f"{turn}.norm").items():
        shape, _, name = key.rpartition(".")
        mine = _normaliser(memory, "x".join(shape.strip("()").split(", ")), name)
        if mine is None:
            continue
        if bool(wanted.isfinite().all()):
            yield Check(f"norm {name}", relative(mine, wanted), SHIFT)
        else:
            yield Check(f"norm {name} nan", float(not torch.equal(mine.isnan(), wanted.isnan())), EXACT)


def _normaliser(memory: Memory, shape: str, name: str) -> Tensor | None:
    """A recorded part of the normaliser, of what we keep."""
    if name == "std":
        return (memory[f"{shape}.M"][0] / (memory[f"{shape}.n"][0] - 1 + EPS)).sqrt()
    kept = memory.get(f"{shape}.{name}")
    return None if kept is None else kept[0].reshape(1) if name == "n" else kept[0]


# --- LocFT-BF -----------------------------------------------------------------------------------------------


def check_locft(case: Recorded) -> Iterator[Check]:
    """The recorded order of requests and the recorded rows of [PAD], and what training makes of them."""
    lm, hparams = case.lm, dict(case.inputs["hparams"])
    layer, template = hparams.pop("layer"), hparams.pop("rewrite_module").removesuffix(".weight").rstrip(".")
    parameters = {lm.family.projection: "mlp_out", lm.family.layer: "layer"}.get(template)
    if parameters is None:
        raise NotCoveredError(f"rewrite_module {template}")
    nowhere = ("model_name_or_path", "data_path", "save_model_dir", "device")
    settings = settings_by(
        "locft", hparams, nowhere, layers=[layer], parameters=parameters, variant="released"
    )
    editor = LocFt(lm, settings)
    (row,), bias = case.tensors["init.lm_head.pad_rows"], case.tensors.get("init.lm_head.pad_bias")
    editor.added = AddedRow(row, None if bias is None else bias.reshape(()))
    editor.order = lambda n, epoch: case.inputs["order"][epoch]
    yield from _batch_checks(case, editor)
    result = editor.edit([case.requests])
    trace = case.outputs["trace"]
    yield Check("losses", absolute(result.diagnostics[0]["losses"][:, 0], [s["loss"] for s in trace]), LOSS)
    yield Check("steps", abs(result.steps[0] - sum(s["stepped"] for s in trace)), EXACT)
    yield from delta_checks(case, lm, result.delta)
    yield from probe_checks(case, lm, result.delta, editor.added)


def _batch_checks(case: Recorded, editor: LocFt) -> Iterator[Check]:
    """The tokens of the first batches, without padding, and where their prompts end."""
    order, size = case.inputs["order"][0], editor.settings.batch_size
    pairs = editor._pairs(case.requests)
    for number, part in enumerate(order[start : start + size] for start in range(0, len(order), size)):
        wanted = next(x for x in case.inputs["intermediate"] if x["name"] == f"epoch0.batch{number}")
        for i, text, length in zip(part, unpadded(wanted), wanted["prompt_lens"], strict=True):
            ours = list(pairs[i].prompt), list(pairs[i].target)
            yield Check("tokens", float(ours != (text[:length], text[length:])), EXACT)
