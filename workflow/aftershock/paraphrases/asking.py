"""Requests for paraphrases of a relation, and the candidates in their answers."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from aftershock.kg.screen import Screen
from aftershock.paraphrases.answers import read_list
from aftershock.paraphrases.kept import AskingError, Completion, KeptAnswers, Message
from aftershock.paraphrases.validation import Validator
from aftershock.tables.graph import PARAPHRASE_CANDIDATES, PARAPHRASE_REQUESTS

SYSTEM = (
    "You help to prepare an experiment with language models by rewording short English texts. Your whole "
    "answer is one JSON list of strings."
)


@dataclass(frozen=True)
class Relation:
    """A relation with what is known about it before any request."""

    relation_id: str
    label: str
    prompt: str
    noun: str
    subject_type: str
    object_type: str
    reviewed: tuple[str, ...] = ()  # templates in paraphrases.tsv, kept or dropped
    objects: tuple[str, ...] = ()  # known labels
    lacks: int = 0  # kept templates that are missing from paraphrases.tsv

    @property
    def wording(self) -> str:
        """The words that describe the relation, none of which gives an object away."""
        return " ".join([self.prompt, self.label, self.noun, self.subject_type, self.object_type])


@dataclass(frozen=True)
class Effort:
    """Numbers of paraphrases and requests per relation."""

    candidates: int = 20  # of each relation
    requests: int = 3  # at most, of each relation


def messages_for(relation: Relation, count: int, number: int, earlier: Sequence[str]) -> list[Message]:
    """Request `number` (from 1) for `count` wordings other than `earlier` ones."""
    lines = [
        "A relation prompt is the start of an English sentence about a subject. It breaks off exactly where "
        "the object's name comes: whoever goes on writes a space and that name, and the sentence is true and "
        "grammatical. The subject's name is not written out; the slot {} stands for it.",
        f"The relation is “{relation.label}”: the subject is a {relation.subject_type}, the object is a "
        f"{relation.object_type}, namely the {relation.noun}. Its prompt is:",
        relation.prompt,
        f"Write {count} different paraphrases of this prompt. Each one",
        "- contains the slot {} exactly once, and no other braces or brackets;",
        "- means the same as the prompt, whoever or whatever the subject is;",
        "- ends where the object's name follows: no full stop, colon, dots, quotation mark or blank at its "
        "end, nothing in it that stands for the object, and no words that belong after the object;",
        "- names no particular subject and no particular object;",
        "- is natural English, and differs from the prompt and from the others in its words or their order.",
    ]
    if earlier:
        lines.append(
            f"These exist already; do not repeat them: {json.dumps(list(earlier), ensure_ascii=False)}"
        )
    if number > 1:
        lines.append(f"This is request number {number}, because earlier answers did not hold enough.")
    lines.append(f"Answer with a JSON list of {count} strings.")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def ask_for(
    relation: Relation,
    answers: KeptAnswers,
    effort: Effort,
    prices: Mapping[str, float] | None = None,
    screen: Screen | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of PARAPHRASE_REQUESTS and of PARAPHRASE_CANDIDATES about one relation.

    It is asked again while fewer texts came than wanted, or too few of them are any good.
    """
    validator = Validator(
        relation.prompt, relation.reviewed, relation.objects, relation.wording, screen or Screen()
    )
    requests: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number in range(1, effort.requests + 1):
        good = [row["template"] for row in found if row["kept"]]
        missing = max(effort.candidates - len(found), relation.lacks - len(good))
        if missing <= 0:
            break
        # the first request does not depend on later reviews, so it is paid for once
        earlier = [*relation.reviewed, *good] if number > 1 else []
        messages = messages_for(relation, missing, number, earlier)
        completion = answers.ask(messages)
        texts = read_list(completion.text)
        for text in texts[: 2 * missing]:  # some models never stop
            template, reason = validator.judge(text)
            row = {"relation_id": relation.relation_id, "candidate": len(found) + 1, "request": number}
            found.append({**row, "template": template, "kept": reason is None, "reason": reason})
        kept = sum(row["kept"] for row in found if row["request"] == number)
        requests.append(
            {
                "relation_id": relation.relation_id,
                "request": number,
                "asked": missing,
                "returned": len(texts),
                "kept": kept,
                "problem": _problem(completion, len(texts), missing),
                "model_returned": completion.model,
                "cost": cost(completion, prices),
                **{
                    name: value
                    for name, value in asdict(completion).items()
                    if name in ("request_id", "finish", "prompt_tokens", "completion_tokens")
                },
            }
        )
    return requests, found


def ask_all(
    relations: Iterable[Relation],
    answers: KeptAnswers,
    effort: Effort,
    settings: Mapping[str, Any],
    prices: Mapping[str, float] | None = None,
    screen: Screen | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """PARAPHRASE_REQUESTS and PARAPHRASE_CANDIDATES of all relations; `settings` are columns of the former.

    `prices` are those of a million tokens, `input` and `output`; what `screen` finds offensive is dropped.

    AskingError names the relation at which it stopped; the answers before are kept.
    """
    requests, found = [], []
    for relation in relations:
        try:
            more, texts = ask_for(relation, answers, effort, prices, screen)
        except AskingError as error:
            raise AskingError(f"relation {relation.relation_id}: {error}") from None
        requests += more
        found += texts
    asked = pd.DataFrame(requests, columns=[c for c in PARAPHRASE_REQUESTS.columns if c not in settings])
    asked = asked.assign(**settings)
    for column, kind in PARAPHRASE_REQUESTS.columns.items():
        if kind == "int64?":
            asked[column] = asked[column].astype("Int64")
        elif kind == "float64?":
            asked[column] = asked[column].astype("float64")
    candidates = pd.DataFrame(found, columns=list(PARAPHRASE_CANDIDATES.columns))
    return asked[list(PARAPHRASE_REQUESTS.columns)], candidates


def report(requests: pd.DataFrame, candidates: pd.DataFrame, answers: KeptAnswers) -> str:
    """Summary of the requests, their cost, and the number of candidates dropped for each reason."""
    sums = requests[["prompt_tokens", "completion_tokens", "cost"]].sum(min_count=1)
    known = [f"{name} {value:g}" for name, value in sums.items() if pd.notna(value)]
    counts = candidates["reason"].value_counts()
    lines = [
        f"{len(requests)} requests, {answers.asked} of them sent now, {answers.cached} answered earlier",
        f"all of them, when they were sent: {', '.join(known) or 'tokens not known'}",
        f"{len(candidates)} candidates, {int(candidates['kept'].sum())} of them good",
        *(f"  {count} dropped: {reason}" for reason, count in counts.items()),
    ]
    return "\n".join(lines)


def cost(completion: Completion, prices: Mapping[str, float] | None) -> float | None:
    """Cost of an answer at prices per million tokens; None where prices or token counts are unknown."""
    if not prices or completion.prompt_tokens is None or completion.completion_tokens is None:
        return None
    tokens = {"input": completion.prompt_tokens, "output": completion.completion_tokens}
    return sum(prices[kind] * count for kind, count in tokens.items()) / 1e6


def relations_to_ask(
    relations: pd.DataFrame,
    paraphrases: pd.DataFrame,
    wanted: int,
    chosen: Collection[str] | None = None,
    facts: pd.DataFrame | None = None,
) -> list[Relation]:
    """The relations of a graph to ask about: those with fewer than `wanted` kept rows, or the `chosen` ones.

    `relations` and `paraphrases` are the graph's rows of the sheets; `facts` are FACTS rows, whose objects'
    labels no template may name.
    """
    labels = facts.dropna(subset=["object"]) if facts is not None else None
    found = []
    for row in relations.itertuples(index=False):
        mine = paraphrases[paraphrases["relation_id"] == row.relation_id]
        lacks = max(0, wanted - int((mine["status"] == "keep").sum()))
        if not (lacks if chosen is None else row.relation_id in chosen):
            continue
        known = [] if labels is None else labels.loc[labels["relation_id"] == row.relation_id, "object"]
        found.append(
            Relation(
                row.relation_id,
                row.label,
                row.prompt,
                row.noun,
                row.subject_type,
                row.object_type,
                reviewed=tuple(mine["template"]),
                objects=tuple(sorted(set(known))),
                lacks=lacks,
            )
        )
    return found


def _problem(completion: Completion, returned: int, asked: int) -> str | None:
    """Description of what is wrong with an answer as a whole; None where nothing is."""
    if returned > 2 * asked:
        return f"{returned} texts for {asked}, of which the first {2 * asked} were read"
    if returned >= asked:
        return None
    what = f"{returned} of {asked} texts" if returned else "no list of texts"
    return f"{what} (ended by {completion.finish})" if completion.finish not in (None, "stop") else what
