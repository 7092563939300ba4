"""The sheets in resources/, and what a run takes from them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.kg.sheets import PARAPHRASES
from aftershock.schema import read_sheet, suggestion


def sheet_errors(resources: Path, config: Mapping[str, Any]) -> list[str]:
    """Yield faults in the rows of relations.tsv, paraphrases.tsv and rules.tsv, and their selection."""
    sheets, errors = {}, []
    for name in ("relations", "paraphrases", "rules"):
        sheets[name], found = read_sheet(resources / f"{name}.tsv", name)
        errors += found
    if not errors:
        errors += [*_repeated(sheets), *_unknown_relations(sheets), *_paraphrases(sheets, config)]
        errors += _chosen_rules(sheets, config)
    return errors


def _chosen_rules(sheets: Mapping[str, list[dict[str, str]]], config: Mapping[str, Any]) -> Iterator[str]:
    """Rules that this run wants but rules.tsv does not keep."""
    kept = [row["rule"] for row in sheets["rules"] if row["status"] == "keep"]
    for rule in config.get("mining", {}).get("rules") or ():
        if rule not in kept:
            yield (
                f"mining.rules: {rule!r} is not kept by rules.tsv; mark it keep there, or leave it out; "
                f"{suggestion(rule, kept)}"
            )


def _repeated(sheets: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    keys = {"relations": ["relation_id"], "paraphrases": ["relation_id", "template"], "rules": ["rule"]}
    for name, columns in keys.items():
        counts = Counter(tuple(row[c] for c in ("namespace", *columns)) for row in sheets[name])
        yield from (f"{name}.tsv: {' '.join(key)} is there {n} times" for key, n in counts.items() if n > 1)


def _unknown_relations(sheets: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    """Rows about relations that relations.tsv does not have."""
    known = {(row["namespace"], row["relation_id"]) for row in sheets["relations"]}
    for name in ("paraphrases", "rules"):
        for number, row in enumerate(sheets[name], start=2):
            ids = [row["relation_id"]] if name == "paraphrases" else row["rule"].replace("&", ">").split(">")
            for relation in ids:
                if (row["namespace"], relation) not in known:
                    options = suggestion(relation, [r for space, r in known if space == row["namespace"]])
                    yield (
                        f"{name}.tsv row {number}: unknown relation {relation!r}; {options}; describe it in "
                        "relations.tsv, or remove the row"
                    )


def _paraphrases(sheets: Mapping[str, list[dict[str, str]]], config: Mapping[str, Any]) -> Iterator[str]:
    """Relations with too few or too many paraphrases, or with their own prompt among them."""
    settings = config.get("paraphrases", {})
    templates: dict[tuple[str, str], list[str]] = {}
    for row in sheets["paraphrases"]:
        if row["status"] == "keep":
            templates.setdefault((row["namespace"], row["relation_id"]), []).append(row["template"])
    for row in sheets["relations"]:
        mine = templates.get((row["namespace"], row["relation_id"]), [])
        where = f"paraphrases.tsv: relation {row['relation_id']} of {row['namespace']}"
        if len(mine) > PARAPHRASES or len(mine) < PARAPHRASES and not settings.get("backend"):
            more = "" if len(mine) > PARAPHRASES else "; keep more rows, or set a paraphrases.backend"
            yield f"{where} has {len(mine)} paraphrases, not {PARAPHRASES}{more}"
        if row["prompt"] in mine:
            yield f"{where} repeats its prompt {row['prompt']!r}"
    known = [row["relation_id"] for row in sheets["relations"]]
    for relation in settings.get("relations") or ():
        if relation not in known:
            yield f"paraphrases.relations: {relation!r} is unknown; {suggestion(relation, known)}"
