"""Files that have to be made before some editors can run. Nothing here loads a tensor library.

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
    load: "module:function", called with the path, the model, the layers that are edited (None: all in the
        file) and the sha256 of the model's weights; its result goes to the editor under the artifact's name.
    """

    rule: str
    path: str
    load: str


ARTIFACTS: dict[str, Artifact] = {
    "hypernetwork": Artifact(
        "train_mend",
        "{trained_on}/{model}/mend/{kind}/hypernetwork.safetensors",
        "aftershock.lm.hypernetwork:load_artifact",
    ),
    "moments": Artifact(
        "moments", "models/{model}/moments.safetensors", "aftershock.lm.moments:load_artifact"
    ),
    "scope_models": Artifact(
        "train_serac",
        "{trained_on}/{model}/serac/scope_models.safetensors",
        "aftershock.lm.scope_models:load_artifact",
    ),
    "other_edits": Artifact(
        "build_cases",
        "{kg}/{model}/cases/{dataset}.edits.parquet",
        "aftershock.experiments.queries:load_first_edits",
    ),
    "sentence_encoder": Artifact("fetch_encoder", "encoder", "aftershock.lm.text_encoder:load_artifact"),
}


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
