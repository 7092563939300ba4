"""Export of changed models: a whole model, a LoRA adapter for PEFT, or a patch of the change."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.edits.fold import fold, of_case
from aftershock.lm.edits.saved import load_deltas, save_deltas
from aftershock.lm.edits.state import State, in_weights, join
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.model import LanguageModel
from aftershock.output import whole_folder

PATCH = "patch.safetensors"
LORA_PREFIX = "base_model.model."  # what PEFT calls the model that an adapter belongs to


def export(lm: LanguageModel, deltas: State, case: int, folder: str | Path, form: str) -> None:
    """Write one case's change of the model to `folder`, which appears whole or not at all.

    "model": weights and tokenizer as transformers loads them. "lora": an adapter as PEFT loads it on top of
    the unedited model, for changes of low rank. "patch": the factors or matrices alone, see `load_patch`.
    ValueError for an unknown form, a folder that exists, and a change that has no such form.
    """
    folder = Path(folder)
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r} of export; known: {', '.join(FORMS)}")
    if folder.exists():
        raise ValueError(f"{folder} exists already; remove it or choose another folder")
    alone = of_case(deltas, case)
    with whole_folder(folder) as part:
        FORMS[form](lm, alone, part)


def load_patch(lm: LanguageModel, folder: str | Path) -> State:
    """The state, of one case, that `export` wrote as a patch; ValueError if it is of another model."""
    deltas, notes = load_deltas(Path(folder) / PATCH)
    if (found := sha256_of_model(lm)) != notes.get("base_sha256"):
        raise ValueError(
            f"{folder} changes a model whose weights have the hash {notes.get('base_sha256')}, but this "
            f"model's have {found}; load the model it was made from, in {notes.get('base_dtype')}"
        )
    return tuple(delta.to(lm.device) for delta in deltas)


def sha256_of_model(lm: LanguageModel) -> str:
    """A hash of all weights by name, as they are in memory; tied ones count once."""
    digest = hashlib.sha256()
    for name, tensor in sorted(lm.model.named_parameters()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write_model(lm: LanguageModel, deltas: State, folder: Path) -> None:
    with fold(lm, deltas, 0):
        lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)


def _write_lora(lm: LanguageModel, deltas: State, folder: Path) -> None:
    """Write one adapter for all modules: y += B A x with A = U and B = V^T; PEFT's alpha / r is 1."""
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for delta in join(deltas):
        if not in_weights(delta):
            raise ValueError(f"{delta.name} is not a change of weights, so no LoRA adapter can hold it")
        U, V = _factors(delta)
        ranks[delta.module] = len(U)
        for name, matrix in (("lora_A", U), ("lora_B", V.T)):
            tensors[f"{LORA_PREFIX}{delta.module}.{name}.weight"] = matrix.float().cpu().contiguous().clone()
    if not ranks:
        raise ValueError("a state without deltas has no LoRA adapter: the unedited model needs none")
    # patterns are regular expressions of module names; each must hit its own module only
    patterns = {re.escape(module): rank for module, rank in ranks.items()}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lm.model.config.name_or_path,
        "inference_mode": True,
        "target_modules": sorted(ranks),
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": lm.family.transposed,
        "use_rslora": False,
        "use_dora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def _factors(delta: WeightDelta) -> tuple[Tensor, Tensor]:
    """U (r, d_in) and V (r, d_out) of a delta of one case, without ranks that change nothing."""
    if (factors := delta.factors()) is None:
        raise ValueError(
            f"{delta.name} is not of low rank, as a LoRA adapter must be; export it as a model or a patch"
        )
    U, V = (factor[0] for factor in factors)
    used = U.any(dim=1) & V.any(dim=1)
    used[0] |= not used.any()  # PEFT has no rank of 0
    return U[used], V[used]


def _write_patch(lm: LanguageModel, deltas: State, folder: Path) -> None:
    notes = {"base_sha256": sha256_of_model(lm), "base_dtype": str(lm.dtype)}
    notes["base"] = lm.model.config.name_or_path or ""
    notes["modules"] = json.dumps(sorted({getattr(delta, "module", delta.name) for delta in deltas}))
    save_deltas(deltas, folder / PATCH, notes)


FORMS: dict[str, Callable[[LanguageModel, State, Path], None]] = {
    "model": _write_model,
    "lora": _write_lora,
    "patch": _write_patch,
}
