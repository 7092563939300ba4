"""An edit of a model in a folder, saved for other programs: `aftershock export`."""

from pathlib import Path

from aftershock.datasets.edit_files.reading import guess_format, read_edits
from aftershock.library import EditRequest, LanguageModel, Query, edit, export, score


def save_edit(model: Path, edits: Path, folder: Path, method: str, form: str, seed: int) -> None:
    """Edit a model by all edits of a file together, print what became likelier, and save the change.

    model: a folder as transformers saves a model.
    edits: a file of edits in one of the formats of `sequences`, JSON or JSON Lines.
    folder: to save to; it must not exist.
    method: an editing method, with its settings for a model of this depth.
    form: lora, model or patch, see `lm.edits.export`.
    seed: of everything that is drawn at random.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another folder")
    rows = read_edits(edits, {"source": guess_format(edits), "broken": "refuse", "target": "alt"})
    found = [row.edit for row in rows if row.edit]
    requests = [EditRequest(each.prompt, each.subject, each.target_new, each.target_true) for each in found]
    lm = LanguageModel.load(model)
    state = edit(lm, requests, method, seed=seed)
    queries = [Query(request.text, request.target_new) for request in requests]
    for request, before, after in zip(requests, score(lm, queries), score(lm, queries, state), strict=True):
        print(f"{request.text} {request.target_new}: log-probability {before:.2f}, now {after:.2f}")
    export(lm, state, folder, form)
    print(f"{folder} holds the change as {form}")
