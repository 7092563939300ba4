"""Rows of files of edits, format by format. A reader yields the edits of a row, in most formats one.

ValueError says what is wrong with a row, as the rest of a sentence that begins with its number. Prompts and
targets are taken without spaces around them. What is only asked may be missing or empty; what is written may
not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aftershock.datasets.edit_files.record import SourceEdit, with_slot
from aftershock.datasets.json_fields import checked, field, label, text, told, writable
from aftershock.prompts import fill, split

QUESTION = "nq question: "  # before questions of Natural Questions in MEND's files
CONTINUED = {  # names of the same field in files of one format
    "prompt": ("prompt", "update", "text"),
    "subject": ("subject", "concept"),
    "target_new": ("target_new", "ans", "labels"),
    "rephrase_prompt": ("rephrase_prompt", "rephrase"),
    "locality_prompt": ("locality_prompt", "loc"),
    "locality_ground_truth": ("locality_ground_truth", "loc_ans"),
}
Row = Mapping[str, Any]
Options = Mapping[str, Any]


def counterfact(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edit of a row of CounterFact as ROME and MEMIT publish it."""
    rewrite, true = "requested_rewrite", label(row, "requested_rewrite.target_true").strip()
    yield SourceEdit(
        source_id=_name(row),
        prompt=_template(row, f"{rewrite}.prompt"),
        subject=text(row, f"{rewrite}.subject").strip(),
        target_new=label(row, f"{rewrite}.target_new").strip(),
        target_true=true,
        relation=_optional(field(row, rewrite), "relation_id") or None,
        paraphrases=_stripped(row.get("paraphrase_prompts"), "paraphrase_prompts"),
        neighbours=tuple(
            (p, true) for p in _stripped(row.get("neighborhood_prompts"), "neighborhood_prompts")
        ),
    )


def flat(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edit of a row whose fields are texts side by side, as EasyEdit reads CounterFact."""
    yield _flat(row, alike=True)


def wikibigedit(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edit of a row of WikiBigEdit, as published or with the names of EasyEdit."""
    yield _flat(row, alike=False)


def knowedit(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edit of a row of KnowEdit; its neighbours are the facts under `locality`."""
    yield _flat(row, alike=False, neighbours=tuple(_localities(row.get("locality"))))


def zsre(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edit of a row of ZsRE as MEND publishes it, towards `alt` or the first of `answers`."""
    subject = text(row, "subject").strip()
    if not (answers := _stripped(given := field(row, "answers"), "answers")):
        raise ValueError(f": answers is {told(given)}, not a list of texts")
    away = options["target"] == "alt"
    local, follows = _optional(row, "loc").removeprefix(QUESTION), _optional(row, "loc_ans")
    yield SourceEdit(
        source_id=_name(row),
        prompt=with_slot(text(row, "src").strip(), subject),
        subject=subject,
        target_new=text(row, "alt").strip() if away else answers[0],
        target_true=answers[0] if away else "",
        answers=answers if away else (),
        paraphrases=tuple(filter(None, [_optional(row, "rephrase")])),
        neighbours=((local, follows),) if local and follows else (),
        alike=False,
    )


def mquake(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the edits of a row of MQuAKE, each with its question as a paraphrase."""
    rewrites = field(row, "requested_rewrite")
    if not isinstance(rewrites, list) or not rewrites:
        raise ValueError(f": requested_rewrite is {told(rewrites)}, not a list of edits")
    for number, rewrite in enumerate(rewrites):
        name = f"requested_rewrite[{number}]"
        inside = {name: rewrite}
        yield SourceEdit(
            source_id=f"{_name(row)}.{number}",
            prompt=_template(inside, f"{name}.prompt"),
            subject=text(inside, f"{name}.subject").strip(),
            target_new=label(inside, f"{name}.target_new").strip(),
            target_true=label(inside, f"{name}.target_true").strip(),
            relation=_optional(rewrite, "relation_id") or None,
            paraphrases=tuple(filter(None, [_optional(rewrite, "question")])),
        )


def conflict_edit(row: Row, options: Options) -> Iterator[SourceEdit]:
    """Yield the first edit of a published case.

    `options["prompts"]` has the templates of paraphrases by relation, by kind of dataset.
    """
    kind = "round" if "edit" in row else "conflict"
    inside = {"edit": row["edit"] if kind == "round" else _first(field(row, "edits"))}
    subject, relation = text(inside, "edit.subject.label").strip(), text(inside, "edit.relation.id")
    templates = options["prompts"].get(kind, {}).get(relation, ())
    yield SourceEdit(
        source_id=_name(row),
        prompt=_template(inside, "edit.relation.prompt"),
        subject=subject,
        target_new=text(inside, "edit.new_object.label").strip(),
        target_true=text(inside, "edit.object.label").strip(),
        relation=relation,
        paraphrases=tuple(fill(template.strip(), subject) for template in templates),
    )


FORMATS: dict[str, Callable[[Row, Options], Iterator[SourceEdit]]] = {
    "counterfact": counterfact,
    "flat": flat,
    "zsre": zsre,
    "wikibigedit": wikibigedit,
    "knowedit": knowedit,
    "mquake": mquake,
    "conflict_edit": conflict_edit,
}
"""The reader of each format of file that `sequences` may name as a source."""


def format_of(row: Any) -> str | None:
    """Return the format that a row's keys look like; None where they look like none."""
    keys = set(row) if isinstance(row, dict) else set()
    if "requested_rewrite" in keys:
        return "mquake" if isinstance(row["requested_rewrite"], list) else "counterfact"
    if {"src", "alt"} <= keys:
        return "zsre"
    if {"edits", "edit"} & keys:
        return "conflict_edit"
    if isinstance(row, dict) and isinstance(row.get("locality"), dict):
        return "knowedit"
    if {"update", "ans"} <= keys:
        return "wikibigedit"
    return "flat" if {"prompt", "subject", "target_new"} <= keys else None


def _flat(row: Row, alike: bool, neighbours: tuple[tuple[str, str], ...] | None = None) -> SourceEdit:
    subject = text(row, _found(row, "subject")).strip()
    return SourceEdit(
        source_id=_name(row),
        prompt=with_slot(text(row, _found(row, "prompt")).strip(), subject),
        subject=subject,
        target_new=text(row, _found(row, "target_new")).strip(),
        target_true=_answer(row.get("ground_truth"), "ground_truth"),
        paraphrases=_stripped(row.get(_found(row, "rephrase_prompt")), "rephrase_prompt"),
        neighbours=_pairs(row) if neighbours is None else neighbours,
        alike=alike,
    )


def _found(row: Row, name: str) -> str:
    """The first of a field's names that a row has."""
    return next((other for other in CONTINUED[name] if other in row), name)


def _pairs(row: Row) -> tuple[tuple[str, str], ...]:
    """The texts that should stay with what should follow: one, or a list of each."""
    given = row.get(_found(row, "locality_prompt"))
    prompts = given if isinstance(given, list) else [given]
    targets = row.get(_found(row, "locality_ground_truth"))
    answers = targets if isinstance(targets, list) else [targets] * len(prompts)
    if given and len(answers) != len(prompts):
        raise ValueError(f": locality_prompt has {len(prompts)} texts, locality_ground_truth {len(answers)}")
    return tuple(_asked(zip(prompts, answers, strict=False), "locality_prompt", "locality_ground_truth"))


def _asked(facts: Iterable[tuple[Any, Any]], prompt_name: str, answer_name: str) -> Iterator[tuple[str, str]]:
    """Prompts with their answers, but for those of which one is missing or empty."""
    for prompt, answer in facts:
        text, name = _optional_text(prompt, prompt_name), _answer(answer, answer_name)
        if text and name:
            yield text, name


def _localities(locality: Any) -> Iterator[tuple[str, str]]:
    """The facts of all kinds under `locality`, those without an answer left out."""
    if locality is not None and not isinstance(locality, dict):
        raise ValueError(f": locality is {told(locality)}, not an object")
    for kind, facts in (locality or {}).items():
        for number, fact in enumerate(facts if isinstance(facts, list) else [facts]):
            where = f"locality.{kind}[{number}]"
            if fact is None:
                continue
            if not isinstance(fact, dict):
                raise ValueError(f": {where} is {told(fact)}, not an object")
            pair = fact.get("prompt"), fact.get("ground_truth")
            yield from _asked([pair], f"{where}.prompt", f"{where}.ground_truth")


def _answer(value: Any, name: str) -> str:
    """The first of an answer's names: a text, a list of them, or a list of such lists; "" for none."""
    while isinstance(value, list):
        value = value[0] if value else None
    return checked(value, name).strip() if value else ""


def _optional(record: Row, name: str) -> str:
    """A text that may be missing, null or empty, as "" then."""
    return _optional_text(record.get(name), name)


def _optional_text(value: Any, name: str) -> str:
    blank = isinstance(value, str) and not value.strip()
    return checked(value, name).strip() if value and not blank else ""


def _stripped(value: Any, name: str) -> tuple[str, ...]:
    """The texts of a list, or the one that stands there itself, without those that are null or empty."""
    found = [value] if isinstance(value, str) else value
    if found is not None and not isinstance(found, list):
        raise ValueError(f": {name} is {told(value)}, not a list of texts")
    stripped = [_optional_text(each, f"{name}[{i}]") for i, each in enumerate(found or [])]
    return tuple(filter(None, stripped))


def _template(record: Row, path: str) -> str:
    """A prompt that has its slot already."""
    found = text(record, path).strip()
    try:
        split(found)
    except ValueError as error:
        raise ValueError(f": {error}") from None
    return found


def _first(edits: Any) -> Any:
    if not isinstance(edits, list) or not edits:
        raise ValueError(f": edits is {told(edits)}, not a list of edits")
    return edits[0]


def _name(row: Row) -> str:
    """A row's own name; "" where it has none and is called by its number."""
    return "" if row.get("case_id") is None else writable(str(row["case_id"]))
