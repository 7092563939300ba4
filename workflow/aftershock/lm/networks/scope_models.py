"""SERAC's trained parts, a scope classifier and a counterfactual model, and the file that holds them.

Both begin as the lowest layers of the model that is edited, under its own embeddings, final norm and head:
so they read its tokens, and nothing has to be fetched. The counterfactual model is given a cached edit and a
prompt as one text and continues it.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from aftershock.lm.files.tensors import open_tensors
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope import Distance, LastTokenEncoder, ScopeClassifier
from aftershock.output import whole_file


@dataclass(frozen=True)
class Shape:
    """Facts about the models beside their weights."""

    scope_layers: int
    counterfactual_layers: int
    distance: Distance = "square"
    heads: int = 1
    bound: bool = False


@dataclass(frozen=True, eq=False)
class ScopeModels:
    """A scope classifier and a counterfactual model, known by a hash of their weights."""

    classifier: ScopeClassifier
    counterfactual: LanguageModel
    sha256: str

    def __post_init__(self) -> None:
        KNOWN[self.sha256] = self


KNOWN: WeakValueDictionary[str, ScopeModels] = WeakValueDictionary()
"""Models that are in use, for deltas that are read from files."""


def find_models(sha256: str) -> ScopeModels:
    """Return the models of a hash that are in use; ValueError where there are none."""
    if sha256 not in KNOWN:
        raise ValueError(
            f"the edit needs the scope classifier and counterfactual model with sha256 {sha256}, which are "
            "not loaded: load their file with scope_models.load_artifact first (rule train_serac makes it)"
        )
    return KNOWN[sha256]


def lowest_layers(lm: LanguageModel, count: int) -> PreTrainedModel:
    """A copy of the model's lowest layers under its embeddings, final norm and head, at least in float32.

    ValueError where the model has fewer.
    """
    if not 0 < count <= lm.n_layers:
        raise ValueError(f"{count} of the lowest layers: the model has {lm.n_layers}")
    config = copy.deepcopy(lm.model.config)
    for name, value in list(vars(config).items()):  # settings of each layer
        if isinstance(value, list) and len(value) == lm.n_layers:
            setattr(config, name, value[:count])
    config.num_hidden_layers = count
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model = model.to(lm.device, torch.promote_types(lm.dtype, torch.float32)).eval()
    known = lm.model.state_dict()
    put(model, {name: known[name] for name, _ in model.named_parameters()})
    return model


@torch.no_grad()
def put(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into the parameters of a model; those that share their numbers are named once."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def beside(lm: LanguageModel, model: PreTrainedModel) -> LanguageModel:
    """`model` as a language model that reads texts as `lm` does, in its precision."""
    return LanguageModel(
        model.to(lm.dtype),
        lm.tokenizer,
        lm.target_ids,
        special_tokens=lm.special_tokens,
        document_token=lm.document_token,
        prompt_format=lm.prompt_format,
    )


def assemble(lm: LanguageModel, weights: Mapping[str, Tensor], shape: Shape) -> ScopeModels:
    """The models of `weights`, named as in a file, for use beside `lm`."""
    models = []
    for part, count in (
        ("classifier", shape.scope_layers),
        ("counterfactual", shape.counterfactual_layers),
    ):
        model = lowest_layers(lm, count)
        put(model, {name.removeprefix(f"{part}."): t for name, t in weights.items() if name.startswith(part)})
        models.append(beside(lm, model))
    classifier = ScopeClassifier(
        LastTokenEncoder(models[0]),
        weights["log_scale"].to(lm.device, lm.dtype).exp(),
        weights["projection"].to(lm.device, lm.dtype),
        shape.distance,
        shape.heads,
        shape.bound,
    )
    return ScopeModels(classifier, models[1], _hash_of(weights, shape))


def _hash_of(weights: Mapping[str, Tensor], shape: Shape) -> str:
    digest = hashlib.sha256(json.dumps(vars(shape), sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_models(
    weights: Mapping[str, Tensor],
    shape: Shape,
    path: str | Path,
    weights_sha256: str,
    about: Mapping[str, Any],
) -> None:
    """Write trained weights atomically, with the hash of the edited model's and the metadata `about` them."""
    metadata = {
        "weights_sha256": weights_sha256,
        "sha256": _hash_of(weights, shape),
        "shape": json.dumps(vars(shape)),
        "about": json.dumps(about, sort_keys=True, default=str),
    }
    with whole_file(path) as part:
        save_file({n: t.detach().cpu().contiguous().clone() for n, t in weights.items()}, part, metadata)


def load_artifact(
    path: str | Path, lm: LanguageModel, layers: Sequence[int] | None, weights_sha256: str
) -> ScopeModels:
    """The models of a file; ValueError when they were trained for another model or are not as written."""
    with open_tensors(path) as file:
        found = file.metadata() or {}
        if found.get("weights_sha256") != weights_sha256:
            raise ValueError(
                f"{path} was trained for a model with weights_sha256 {found.get('weights_sha256')}, not "
                f"{weights_sha256}; delete it and run again: rule train_serac makes it"
            )
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    models = assemble(lm, weights, Shape(**json.loads(found["shape"])))
    if models.sha256 != found["sha256"]:
        raise ValueError(f"{path} is damaged; delete it and run again: rule train_serac makes it")
    return models
