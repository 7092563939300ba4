"""The choice of edits from the rows of a file: repeats, contradictions, cycles, and subjects of cases."""

import random
from collections import Counter

import pytest

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.reading import Row
from aftershock.datasets.edit_files.record import SourceEdit


def row(subject: str, target: str, prompt: str = "{} is", true: str = "x") -> Row:
    return Row(SourceEdit("", prompt, subject, target, true))


REPEATED = [
    row("A", "1"),
    row("B", "1"),
    row("a", "2"),  # contradicts the first
    row("A", "2"),  # contradicts the first, or repeats the one before
    row("A", "3", "{} has"),
    row("C", "x"),
]


def test_the_first_edit_of_a_subject_wins():
    listed = choose(REPEATED, 3, "drop")
    assert choose(REPEATED, 2, "drop") == listed[:2]  # what follows the last edit is not listed
    assert [(each.edit_id, each.kept, each.reason) for each in listed] == [
        (0, True, None),
        (1, True, None),
        (2, False, "contradiction"),
        (3, False, "contradiction"),
        (4, False, "same_subject"),
        (5, True, "unchanged"),
    ]


def test_repeats_are_made_as_published_and_marked():
    listed = choose(REPEATED, 6, "keep")
    assert all(each.kept for each in listed)
    repeats = ["contradiction", "duplicate", "same_subject", "unchanged"]
    assert [each.reason for each in listed] == [None, None, *repeats]


def slowly_chosen(rows, wanted, repeats, cycle, in_cases):
    """(row, made, remark) of each row that is read until there are enough edits; None if there never are."""
    made, found, n = [], [], 0
    while len(made) < wanted:
        if n == len(rows) and not (cycle and any(each.edit for each in rows)) or n > 99:
            return None
        each = rows[n % len(rows)]
        edit = each.edit
        if edit is None:
            if n < len(rows):
                found.append((n, False, "broken"))
        elif edit.subject.lower() in in_cases:
            if n < len(rows):
                found.append((n, False, "in_cases"))
        else:
            before = [e for e in made if e.subject.lower() == edit.subject.lower()]
            asked = [e for e in before if e.prompt == edit.prompt]
            remark = None
            if asked:
                same = asked[-1].target_new.lower() == edit.target_new.lower()
                remark = "duplicate" if same else "contradiction"
            elif before:
                remark = "same_subject"
            elif edit.target_new.lower() == edit.target_true.lower():
                remark = "unchanged"
            keep = remark in (None, "unchanged") or repeats == "keep"
            found.append((n, keep, remark))
            made += [edit] if keep else []
        n += 1
    return found


def test_edits_are_chosen_as_slow_code_does():
    draw, outcomes = random.Random(0), Counter()
    for _ in range(400):
        rows = [
            Row(None, "odd")
            if draw.random() < 0.1
            else row(draw.choice("AaBbCDE"), draw.choice("12x"), draw.choice(["{} is", "{} has"]))
            for _ in range(draw.randint(1, 8))
        ]
        repeats = draw.choice(["keep", "drop"])
        asked = draw.randint(1, 9), repeats, repeats == "keep" and draw.random() < 0.5
        in_cases = draw.choice([set(), {"b"}, {"a", "e"}])
        wanted = slowly_chosen(rows, *asked, in_cases)
        outcomes[wanted is None, repeats] += 1
        if wanted is None:
            with pytest.raises(ValueError, match="the last checkpoint asks for"):
                choose(rows, *asked, in_cases)
            continue
        found = choose(rows, *asked, in_cases)
        remarks = [(each.reason or "").split(":")[0] or None for each in found]
        assert [(e.edit_id, e.kept, r) for e, r in zip(found, remarks, strict=True)] == wanted
    assert min(outcomes.values()) > 20


def test_a_list_is_read_again_with_new_numbers():
    rows = [row("A", "1"), Row(None, "row 1 lacks subject"), row("B", "1")]
    listed = choose(rows, 5, "keep", cycle=True)
    assert [each.edit_id for each in listed] == [0, 1, 2, 3, 5, 6]
    assert [each.reason for each in listed][3:] == ["duplicate"] * 3
    with pytest.raises(ValueError, match="asks for 1 edits, and there are 0"):
        choose([Row(None, "broken")], 1, "keep", cycle=True)


def test_too_few_edits_are_an_error_with_what_was_left_out():
    said = r"asks for 9 edits, and there are 3 \(2 contradiction, 1 same_subject left out\): .*keep"
    with pytest.raises(ValueError, match=said):
        choose(REPEATED, 9, "drop")


def test_no_edit_is_about_a_subject_of_the_cases():
    listed = choose(REPEATED, 1, "drop", in_cases={"a", "C"})
    assert [(each.kept, each.reason) for each in listed] == [(False, "in_cases"), (True, None)]
