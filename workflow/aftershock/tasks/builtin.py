"""The built-in engine: a task's items asked of a model, in few large batches."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from aftershock.lm.answers import answer_greedily
from aftershock.lm.edits import EMPTY, State, rewrite_prompts
from aftershock.lm.model import LanguageModel, not_finite
from aftershock.lm.scoring import Score, score_tokens
from aftershock.lm.texts.tokens import Pair
from aftershock.progress import Progress
from aftershock.prompts import shortened
from aftershock.tables.sequences import TASK_OUTPUTS
from aftershock.tasks.reading import Asked, ItemReader

COLUMNS = [column for column in TASK_OUTPUTS.columns if column != "checkpoint"]
SHOWN = 5  # items that an error names


def run_items(
    lm: LanguageModel,
    task: Asked,
    items: pd.DataFrame,
    state: State = EMPTY,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return what the model says to `items`, TASK_OUTPUTS without the checkpoint.

    Case 0 of `state` is attached while the model runs: what the weights do not hold. What depends on a prompt
    is decided once for each of them. ValueError where the model cannot be asked: no items, weights that are
    not finite, a context too short.
    """
    check(lm, task, items)
    reader = ItemReader(lm, task.chat)
    run = {"choice": _choose, "generate": _generate, "perplexity": _read_whole}[task.kind]
    return as_outputs(run(reader, task, items, state, progress))


def check(lm: LanguageModel, task: Asked, items: pd.DataFrame) -> None:
    """Raise ValueError where a model cannot be asked a task's items."""
    if items.empty:
        raise ValueError(f"task {task.name}: there are no items; look at its data, and at what is left out")
    if broken := not_finite(lm.model):
        raise ValueError(
            f"task {task.name}: the model has weights that are not finite (NaN or infinite) in {len(broken)} "
            f"tensors, {broken[0]} first; nothing can be measured with it"
        )
    if task.kind == "generate" and task.max_tokens >= lm.context:
        raise ValueError(
            f"task {task.name}: answers of up to {task.max_tokens} tokens do not fit the model's context of "
            f"{lm.context}; set max_tokens lower, or take a model with a longer context"
        )
    if task.kind != "perplexity":
        _check_room(lm, task, items)


def _check_room(lm: LanguageModel, task: Asked, items: pd.DataFrame) -> None:
    """Raise ValueError when every question alone, without examples, is too long for the model."""
    room = lm.context - (task.max_tokens if task.kind == "generate" else 1)
    if any(len(question.encode()) < room for question in items["question"]):
        return  # a token covers a byte at least, so that it need not be read
    shortest = min(len(ids) for ids in lm.encode(list(items["question"])))
    if shortest > room:
        raise ValueError(
            f"task {task.name}: the shortest of {len(items)} questions has {shortest} tokens, and the "
            f"model's context has room for {room}; this model cannot be scored on it: leave the task out, "
            "or take a model with a longer context"
        )


def _choose(
    reader: ItemReader, task: Asked, items: pd.DataFrame, state: State, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return the log-probability of every choice after its prompt."""
    prompts = read_prompts(reader.lm, state, items["prompt"])
    asked = [
        Choice(item, prompt, choice)
        for item, prompt, choices in zip(items["item_id"], prompts, items["choices"], strict=True)
        for choice in choices
    ]
    pairs = reader.encode_pairs([(prompt, choice) for _, prompt, choice in asked])
    cuts = [reader.cut(pair) for pair in checked(task, asked, pairs, reader.lm)]
    scores = score_tokens(reader.lm, [cut.pair for cut in cuts], state, progress)
    of_item: dict[str, list[tuple[Score, int]]] = defaultdict(list)
    for (item, _, _), score, cut in zip(asked, scores, cuts, strict=True):
        of_item[item].append((score, cut.truncated))
    return [
        scored(item, [score for score, _ in of_item[item]], max(cut for _, cut in of_item[item]))
        for item in items["item_id"]
    ]


def _generate(
    reader: ItemReader, task: Asked, items: pd.DataFrame, state: State, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return the greedy answer to every prompt."""
    encoded = reader.encode_prompts(read_prompts(reader.lm, state, items["prompt"]))
    room = reader.lm.context - task.max_tokens
    answers = answer_greedily(
        reader.lm,
        [ids[-room:] for ids in encoded],
        task.max_tokens,
        task.stop,
        sorted(reader.ends),
        state,
        progress,
    )
    return [
        {
            **blank(item),
            "text": answer.text,
            "finished": answer.finished,
            "truncated": max(0, len(ids) - room),
        }
        for item, answer, ids in zip(items["item_id"], answers, encoded, strict=True)
    ]


def _read_whole(
    reader: ItemReader, task: Asked, items: pd.DataFrame, state: State, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return the log-probability of every whole text, the first of an item's answers."""
    texts = [answers[0] for answers in items["answers"]]
    windows = text_windows(reader, texts, state)
    scores = iter(score_tokens(reader.lm, [pair for some in windows for pair in some], state, progress))
    return [
        scored(item, [joined([next(scores) for _ in some])], 0)
        for item, some in zip(items["item_id"], windows, strict=True)
    ]


# --- what the harness's engine needs as well ----------------------------------------------------------------


def read_prompts(lm: LanguageModel, state: State, prompts: Iterable[str]) -> list[str]:
    """Return the prompts as the model reads them in `state`, which may put text before each."""
    prompts = list(prompts)
    distinct = list(dict.fromkeys(prompts))
    read = dict(zip(distinct, rewrite_prompts(lm, state, distinct, [0] * len(distinct)), strict=True))
    return [read[prompt] for prompt in prompts]


def text_windows(reader: ItemReader, texts: Sequence[str], state: State) -> list[list[Pair]]:
    """Return the parts in which each whole text is read.

    Text that `state` puts before it gives way where both are too long for the model's context.
    """
    found = []
    for text, read in zip(texts, read_prompts(reader.lm, state, texts), strict=True):
        parts = reader.windows(text)
        if read != text and text:
            (pair,) = ItemReader(reader.lm, chat=False).encode_pairs([(read.removesuffix(text), text)])
            parts = [pair] if len(pair.prompt) + len(pair.target) <= reader.lm.context + 1 else parts
        found.append(parts)
    return found


def joined(scores: Sequence[Score]) -> Score:
    """Return the score of a text whose parts have `scores`."""
    return Score(
        tuple(value for score in scores for value in score.token_logprobs),
        tuple(match for score in scores for match in score.token_matches),
    )


class Choice(NamedTuple):
    """A choice of an item, after its prompt as the model reads it."""

    item_id: str
    prompt: str
    choice: str


def checked(task: Asked, asked: Sequence[Choice], pairs: Sequence[Pair], lm: LanguageModel) -> Sequence[Pair]:
    """Return `pairs`, the tokens of what is asked; ValueError names items whose choices have none of their
    own, or more than the model's context has room for.
    """
    for one, pair in zip(asked, pairs, strict=True):
        if not pair.target:
            raise ValueError(
                f"task {task.name}: choice {one.choice!r} of {one.item_id} has no tokens of its own after "
                f"{shortened(one.prompt)!r}; begin it with a space, or leave the item out"
            )
    long = [one.item_id for one, pair in zip(asked, pairs, strict=True) if len(pair.target) > lm.context]
    if long:
        shown = ", ".join(list(dict.fromkeys(long))[:SHOWN])
        raise ValueError(
            f"task {task.name}: choices of {len(set(long))} items are longer than the model's context of "
            f"{lm.context} tokens ({shown}); leave these items out, or take a model with a longer context"
        )
    return pairs


def as_outputs(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return outputs of items as a table with the columns of TASK_OUTPUTS but for the checkpoint."""
    types = {"text": "string", "finished": "boolean", "truncated": "int64"}
    return pd.DataFrame(rows, columns=COLUMNS).astype(types)


def scored(item: str, scores: Sequence[Score], truncated: int) -> dict[str, Any]:
    """Return the outputs of an item whose choices have `scores`."""
    return {
        **blank(item),
        "logprobs": [score.logprob for score in scores],
        "n_tokens": [float(len(score.token_logprobs)) for score in scores],
        "greedy": [score.argmax_match for score in scores],
        "truncated": truncated,
    }


def blank(item: str) -> dict[str, Any]:
    """Return the outputs of an item of which nothing is known."""
    return {
        "item_id": item,
        "logprobs": [],
        "n_tokens": [],
        "greedy": [],
        "text": None,
        "finished": None,
        "truncated": 0,
    }
