"""Artifacts: files that must be made before some editors can run. Loads no tensor library.

An artifact is one entry here and one rule of the workflow. A method names those it needs in METHOD.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aftershock.lm.model import LanguageModel


@dataclass(frozen=True)
class Artifact:
    """A file that editors need, the rule that makes it, and the function that reads it.

    path: below results/, with {model} and, where it depends on them, the {kg} and {dataset} that are edited
        (tuning edits coverage), or the graph that hypernetworks are {trained_on}, and their {kind}.
    source: the artifact that it is made from, if any; it is made for the same layers.
    load: "module:function", called with the path, the model, the layers that are edited (None: all in the
        file) and the sha256 of the model's weights; its result goes to the editor under the artifact's name.
    """

    rule: str
    path: str
    load: str
    source: str | None = None


ARTIFACTS: dict[str, Artifact] = {
    "attention_moments": Artifact(
        "attention_moments",
        "models/{model}/attention_moments.safetensors",
        "aftershock.lm.statistics.moments:load_attention_artifact",
    ),
    "hypernetwork": Artifact(
        "train_mend",
        "{trained_on}/{model}/mend/{kind}/hypernetwork.safetensors",
        "aftershock.lm.networks.hypernetwork:load_artifact",
    ),
    "moments": Artifact(
        "moments", "models/{model}/moments.safetensors", "aftershock.lm.statistics.moments:load_artifact"
    ),
    "null_space": Artifact(
        "null_space",
        "models/{model}/null_space.safetensors",
        "aftershock.lm.statistics.null_space:load_artifact",
        source="moments",
    ),
    "other_edits": Artifact(
        "build_cases",
        "{kg}/{model}/cases/{dataset}.edits.parquet",
        "aftershock.experiments.queries:load_first_edits",
    ),
    "sentence_encoder": Artifact(
        "fetch_encoder", "encoder", "aftershock.lm.networks.text_match:load_artifact"
    ),
    "scope_models": Artifact(
        "train_serac",
        "{trained_on}/{model}/serac/scope_models.safetensors",
        "aftershock.lm.networks.scope_models:load_artifact",
    ),
}


def with_sources(names: Sequence[str]) -> set[str]:
    """Return these artifacts and all that they are made from."""
    found = set(names)
    while sources := {source for name in found if (source := ARTIFACTS[name].source)} - found:
        found |= sources
    return found


def load_artifacts(
    loaders: Mapping[str, str],
    paths: Sequence[str | Path],
    lm: "LanguageModel",
    layers: Sequence[int] | None,
    weights_sha256: str,
) -> dict[str, Any]:
    """Return what an editor needs, by name; `loaders` has the function that reads each of `paths`, in
    order."""
    found = {}
    for (name, load), path in zip(loaders.items(), paths, strict=True):
        module, _, function = load.partition(":")
        found[name] = getattr(import_module(module), function)(path, lm, layers, weights_sha256)
    return found
