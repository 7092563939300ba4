"""PMET on recorded cases: values of both modules, the writing of one or both, what the model then says."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from aftershock.editors.methods import method_of
from aftershock.lm.model import LanguageModel
from recorded import VALUE, Check, NotCoveredError, Recorded, relative
from recorded_edits import behaviour_checks, delta_checks, loss_checks, tokens_check, using
from recorded_multi_layer import decided
from recorded_settings import settings_from


def check_pmet(case: Recorded) -> Iterator[Check]:
    """PMET; the requests of a case are one edit."""
    lm = case.lm
    token_check, other = tokens_check(case)
    yield token_check
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
    for i, (recorded, trace) in enumerate(zip(case.optimisations, case.outputs["trace"], strict=True)):
        wanted = case.part(recorded["name"])
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
    yield from delta_checks(case, lm, result.delta)
    yield from behaviour_checks(case, lm, result.delta)


def _modules(lm: LanguageModel, hparams: dict[str, Any]) -> tuple[str, ...]:
    """The settings `modules` of hyperparameters that name modules, which are taken out."""
    parts = {lm.family.attention_projection: "attention", lm.family.projection: "mlp"}
    written = hparams.pop("rewrite_module_tmps")
    for module in (*written, hparams.pop("rewrite_module_tmp", written[0])):
        if module not in parts:
            raise NotCoveredError(f"rewrite_module_tmps {module}")
    return tuple(parts[module] for module in written)
