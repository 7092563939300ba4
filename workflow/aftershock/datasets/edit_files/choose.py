"""Choice of the edits of a source that a plan makes, with remarks on odd ones."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count
from typing import NamedTuple

from aftershock.datasets.edit_files.reading import Row
from aftershock.datasets.edit_files.record import SourceEdit

BROKEN, DUPLICATE, CONTRADICTION = "broken", "duplicate", "contradiction"
SAME_SUBJECT, UNCHANGED, IN_CASES = "same_subject", "unchanged", "in_cases"
REASONS = {
    BROKEN: "the row cannot be read",
    DUPLICATE: "an earlier edit is the same",
    CONTRADICTION: "an earlier edit gives the same subject and prompt another object",
    SAME_SUBJECT: "an earlier edit is about the same subject",
    UNCHANGED: "its new object is true already",
    IN_CASES: "a case of the plan is about its subject",
}
"""Why an edit is odd or left out, as `reason` begins."""


class Listed(NamedTuple):
    """A row of a source in its place, with what becomes of it."""

    edit_id: int
    row: Row
    kept: bool
    reason: str | None


class Repeats:
    """Compares each edit with those before it. Subjects are compared without regard to case."""

    def __init__(self) -> None:
        self._targets: dict[str, dict[str, str]] = {}  # the latest object by prompt, by subject

    def reason(self, edit: SourceEdit) -> str | None:
        """Return how an edit repeats an earlier one; None where it does not.

        Of several earlier ones with its subject and prompt the latest counts: that is in force.
        """
        before = self._targets.get(_key(edit.subject))
        if before is None:
            return None
        latest = before.get(edit.prompt)
        if latest is None:
            return SAME_SUBJECT
        return DUPLICATE if latest == _key(edit.target_new) else CONTRADICTION

    def add(self, edit: SourceEdit) -> None:
        """Note an edit that is made."""
        self._targets.setdefault(_key(edit.subject), {})[edit.prompt] = _key(edit.target_new)


def choose(
    rows: Iterable[Row], wanted: int, repeats: str, cycle: bool = False, in_cases: Collection[str] = ()
) -> list[Listed]:
    """Return the rows of a source up to the last of `wanted` edits that a plan makes.

    repeats: `drop` leaves out edits of a subject that an earlier one has edited, `keep` makes them.
    cycle: start again at the first row, with new numbers, when there are too few.
    in_cases: labels of subjects that no edit may be about.

    ValueError says how many edits there are where they are too few.
    """
    avoided, made, listed = set(map(_key, in_cases)), Repeats(), []
    left = wanted
    for edit_id, row in _in_turn(rows, cycle, avoided):
        if not left:
            break
        kept, reason = _judge(row, made, repeats == "keep", avoided)
        listed.append(Listed(edit_id, row, kept, reason))
        if kept and row.edit:
            made.add(row.edit)
            left -= 1
    if left:
        raise ValueError(_too_few(listed, wanted, cycle))
    return listed


def _judge(row: Row, made: Repeats, keep: bool, avoided: Collection[str]) -> tuple[bool, str | None]:
    """Return True if a plan makes an edit, and a remark if it is odd."""
    if row.edit is None:
        return False, f"{BROKEN}: {row.fault}"
    if _key(row.edit.subject) in avoided:
        return False, IN_CASES
    if reason := made.reason(row.edit):
        return keep, reason
    true = map(_key, (row.edit.target_true, *row.edit.answers))
    return True, UNCHANGED if _key(row.edit.target_new) in true else None


def _in_turn(rows: Iterable[Row], cycle: bool, avoided: Collection[str]) -> Iterator[tuple[int, Row]]:
    """Rows with their numbers; with `cycle` those that can be made again and again, if there are any."""
    if not cycle:
        yield from enumerate(rows)
        return
    known = list(rows)
    yield from enumerate(known)
    edits = [
        (number, row)
        for number, row in enumerate(known)
        if row.edit and _key(row.edit.subject) not in avoided
    ]
    for again in count(1) if edits else ():
        yield from ((again * len(known) + number, row) for number, row in edits)


def counts(listed: Iterable[Listed]) -> Mapping[tuple[bool, str], int]:
    """Return how many rows are kept or left out for each reason, "" for those with none."""
    return Counter((each.kept, (each.reason or "").partition(":")[0]) for each in listed)


def _too_few(listed: list[Listed], wanted: int, cycle: bool) -> str:
    """Return the message for a source with too few edits."""
    kept = sum(each.kept for each in listed)
    lost = {reason: n for (made, reason), n in counts(listed).items() if not made}
    why = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items()))
    remedies = ["lower the last checkpoint"]
    if set(lost) & {DUPLICATE, CONTRADICTION, SAME_SUBJECT}:
        remedies.append("make repeated edits too (repeats: keep)")
    if not cycle:
        remedies.append("give a source with more")
    left_out = f" ({why} left out)" if why else ""
    asked = f"the last checkpoint asks for {wanted} edits, and there are {kept}{left_out}"
    return f"{asked}: {', or '.join(remedies)}"


def _key(label: str) -> str:
    return " ".join(label.split()).casefold()
