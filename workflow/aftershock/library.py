"""Edit a model, ask it, take the edit back and save it, in a few lines of Python.

These are the functions that `import aftershock` offers. A state is what edits made of a model: a tuple, empty
for the unedited one, which also has what methods keep for their later edits. The model itself is never
changed, so taking an edit back is to ask in an earlier state.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aftershock.editors.contract import Memory
from aftershock.editors.methods import default_layers, make_editor, method_of, settings_of
from aftershock.lm import scoring
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.edits.export import export as export_case
from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.requests import EditRequest, Query

__all__ = ["EditRequest", "LanguageModel", "Query", "edit", "export", "generate", "score"]


class _Edited(tuple[Any, ...]):
    """A state, and by method and settings what they keep for later edits (see `Editor.edit`)."""

    memories: Mapping[str, Memory]

    def __new__(cls, deltas: Iterable[Any], memories: Mapping[str, Memory]) -> "_Edited":
        state = super().__new__(cls, deltas)
        state.memories = memories
        return state


def edit(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    method: str = "ft",
    state: State = EMPTY,
    artifacts: Mapping[str, Any] | None = None,
    seed: int = 0,
    **settings: Any,
) -> State:
    """Return the state after `requests` are written together, starting from `state`.

    method: an editing method by its name, see `aftershock list methods`, or the path of a file with one.
    state: what earlier edits made of the model. A method that remembers its earlier edits finds those with
        the same settings in it.
    artifacts: what the method needs beside the model, such as second moments, by name.
    seed: of everything that is drawn at random.
    settings: the method's, such as `layers`; without these it edits where its rule says for this depth.

    ValueError where a setting or an artifact is wrong or missing, and where the edit fails.

    >>> from aftershock import EditRequest, edit
    >>> request = EditRequest("{} lives in", "Ann", target_new="Rome")
    >>> state = edit(lm, [request], "ft", layers=[1], steps=5)
    >>> len(state)
    1
    """
    if not requests:
        raise ValueError("there is nothing to edit: requests is empty")
    found = method_of(method)
    if hasattr(found.method.settings(), "layers") and "layers" not in settings:
        layers = default_layers(method, lm.n_layers)
        if not layers:
            raise ValueError(f"{method} has no rule for layers; name them: layers=[...]")
        settings["layers"] = layers
    chosen = settings_of(method, settings)
    missing = [name for name in found.method.needs(chosen) if name not in (artifacts or {})]
    if missing:
        raise ValueError(
            f"{method} needs {', '.join(missing)} with these settings; give them by name in `artifacts`, or "
            "choose settings that need none"
        )
    editor = make_editor(method, chosen, lm, artifacts, seed)
    memories, key = getattr(state, "memories", {}), repr((method, chosen))
    with torch.enable_grad():
        result = editor.edit([list(requests)], tuple(state), memories.get(key))
    if result.reasons[0] is not None:
        raise ValueError(f"{method} failed: {result.reasons[0]}")
    learnt = {} if result.memory is None else {key: result.memory}
    return _Edited((*state, *result.delta), {**memories, **learnt})


def score(lm: LanguageModel, queries: Sequence[Query], state: State = EMPTY) -> list[float]:
    """Return the log-probability of each query's target after its prompt, in `state`.

    >>> from aftershock import EditRequest, Query, edit, score
    >>> queries = [Query("Ann lives in", "Rome")]
    >>> state = edit(lm, [EditRequest("{} lives in", "Ann", "Rome")], "ft", layers=[1], steps=5)
    >>> score(lm, queries, state) > score(lm, queries)
    True
    """
    return [found.logprob for found in scoring.score(lm, queries, tuple(state))]


def generate(
    lm: LanguageModel, prompts: Sequence[str], state: State = EMPTY, n_tokens: int = 20
) -> list[str]:
    """Return the greedy continuation of each prompt in `state`, at most `n_tokens` tokens.

    >>> from aftershock import generate
    >>> [text] = generate(lm, ["Ann lives in"], n_tokens=3)
    >>> generate(lm, ["Ann lives in"], n_tokens=3) == [text]
    True
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts are a list of texts; found the text {prompts!r}")
    return continue_greedily(lm, prompts, n_tokens, tuple(state))


def export(lm: LanguageModel, state: State, folder: str | Path, form: str = "lora") -> None:
    """Save a state for other programs, in a folder that does not exist yet.

    form: "lora" for an adapter as PEFT loads it, where the change is of low rank; "model" for the whole model
        as transformers loads it; "patch" for the change alone.

    >>> from aftershock import EditRequest, edit, export
    >>> request = EditRequest("{} lives in", "Ann", "Rome")
    >>> state = edit(lm, [request], "rome", layers=[1], steps=2, mom2_adjustment=False)
    >>> export(lm, state, folder / "adapter")
    >>> sorted(path.name for path in (folder / "adapter").iterdir())
    ['adapter_config.json', 'adapter_model.safetensors']
    """
    export_case(lm, tuple(state), 0, folder, form)
