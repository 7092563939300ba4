"""An edit of a model in a folder, saved for other programs: `aftershock export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from aftershock.datasets.edit_files.reading import guess_format, read_edits
from aftershock.editors.artifacts import ARTIFACTS, load_artifacts
from aftershock.editors.methods import method_of
from aftershock.library import EditRequest, LanguageModel, Query, edit, export, score
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.schema import suggestion


def save_edit(
    model: Path,
    edits: Path,
    folder: Path,
    method: str,
    form: str,
    settings: Sequence[str] = (),
    artifacts: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Edit a model by all edits of a file together, print what became likelier, and save the change.

    model: a folder as transformers saves a model. folder: to save to; it must not exist.
    edits: a file of edits in one of the formats of `sequences`, JSON or JSON Lines.
    method: an editing method, with its settings for a model of this depth.
    form: lora, model or patch, see `lm.edits.export`.
    settings: of the method, each NAME=VALUE. artifacts: files that it needs, each NAME=FILE.
    seed: of everything that is drawn at random.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another folder")
    if form == "lora" and method_of(method).method.change in ("matrices", "texts"):
        raise ValueError(f"what {method} changes is not of low rank, as a LoRA adapter is; take --form model")
    values = {name: yaml.safe_load(value) for name, value in _pairs("--set", settings)}
    files = dict(_pairs("--artifact", artifacts))
    if unknown := next((name for name in files if name not in ARTIFACTS), None):
        raise ValueError(f"--artifact: {unknown!r} is unknown; {suggestion(unknown, ARTIFACTS)}")
    rows = read_edits(edits, {"source": guess_format(edits), "broken": "refuse", "target": "alt"})
    found = [row.edit for row in rows if row.edit]
    requests = [EditRequest(each.prompt, each.subject, each.target_new, each.target_true) for each in found]
    lm = LanguageModel.load(model)
    loaders = {name: ARTIFACTS[name].load for name in files}
    loaded = load_artifacts(loaders, list(files.values()), lm, None, sha256_of_weights(model))
    state = edit(lm, requests, method, artifacts=loaded, seed=seed, **values)
    queries = [Query(request.text, request.target_new) for request in requests]
    for request, before, after in zip(requests, score(lm, queries), score(lm, queries, state), strict=True):
        print(f"{request.text} {request.target_new}: log-probability {before:.2f}, now {after:.2f}")
    export(lm, state, folder, form)
    print(f"{folder} holds the change as {form}")


def _pairs(option: str, given: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the names and values of an option that stands for several."""
    for text in given:
        if not text.partition("=")[0] or "=" not in text:
            raise ValueError(f"{option}: expected a name, = and a value; found {text!r}")
    return [(name, value) for name, _, value in (text.partition("=") for text in given)]
