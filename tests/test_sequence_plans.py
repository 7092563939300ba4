"""Plans of sequences: turns, orders and groups of checkpoints."""

import pytest

from aftershock.experiments.sequences.plan import Plan


def plan(mode="sequential", batch=1, checkpoints=(0, 2, 5), orders=(0,)):
    return Plan(mode, batch, tuple(checkpoints), tuple(orders))


TO_SIX = range(1, 7)


@pytest.mark.parametrize(
    ("mode", "batch", "turns", "made"),
    [
        ("sequential", 1, [(n - 1, [n], n if n in (2, 6) else None) for n in TO_SIX], {2: [1, 2], 6: TO_SIX}),
        ("sequential", 2, [(0, [1, 2], 2), (2, [3, 4], None), (4, [5, 6], 6)], {2: [1, 2], 6: TO_SIX}),
        ("single", 1, [(0, [2], 2), (0, [6], 6)], {2: [2], 6: [6]}),
        ("single", 2, [(0, [1, 2], 2), (0, [5, 6], 6)], {2: [1, 2], 6: [5, 6]}),
        ("single", None, [(0, [1, 2], 2), (0, TO_SIX, 6)], {2: [1, 2], 6: TO_SIX}),
    ],
)
def test_turns_begin_with_the_edits_before_them_or_none_and_end_at_checkpoints(mode, batch, turns, made):
    p = plan(mode, batch, (0, 2, 6))
    assert not list(p.faults())
    assert [turn.number for turn in p.turns] == list(range(1, len(turns) + 1))
    assert [(turn.before, list(turn.positions), turn.checkpoint) for turn in p.turns] == [
        (before, list(positions), checkpoint) for before, positions, checkpoint in turns
    ]
    assert {n: list(p.made_at(n)) for n in (2, 6)} == {n: list(positions) for n, positions in made.items()}
    assert {n: p.latest_at(n) for n in (2, 6)} == {
        turn.checkpoint: turn.positions for turn in p.turns if turn.checkpoint
    }
    assert [turn.is_fresh for turn in p.turns] == [not before for before, _, _ in turns]


def test_orders_hold_the_same_edits():
    p = plan(checkpoints=(0, 40))
    edits = list(range(100, 140))
    assert p.in_order(edits, 0) == edits
    first, second = p.in_order(edits, 1), p.in_order(edits, 2)
    assert sorted(first) == sorted(second) == edits
    assert first != edits
    assert first != second
    assert first == plan(checkpoints=(0, 10, 40)).in_order(edits, 1)
    with pytest.raises(ValueError, match="makes 40 edits and was given 39"):
        p.in_order(edits[1:], 1)


def test_groups_of_checkpoints_leave_out_the_unedited_model():
    p = plan(checkpoints=(0, 1, 10, 50, 100))
    assert p.groups() == ("00001-00100",)
    assert p.groups(2) == ("00001-00010", "00050-00100")
    assert p.groups(3) == ("00001-00050", "00100-00100")
    assert p.checkpoints_of("00001-00050") == (1, 10, 50)
    assert [n for group in p.groups(1) for n in p.checkpoints_of(group)] == [1, 10, 50, 100]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"checkpoints": (0, 5, 5)}, "5 comes after 5; they must increase"),
        ({"checkpoints": (5, 2)}, "2 comes after 5"),
        ({"checkpoints": (0,)}, "no edit is made"),
        ({"batch": 4, "checkpoints": (0, 4, 10)}, "10 is inside a batch of 4 edits"),
        ({"mode": "single", "batch": 4, "checkpoints": (0, 2, 10)}, "2 is fewer edits than the batch of 4"),
        ({"batch": None}, "batch: all has no meaning in mode sequential"),
        ({"orders": (1, 1)}, "orders: one stands twice"),
    ],
)
def test_contradictions_are_named(changes, expected):
    (found,) = plan(**changes).faults()
    assert expected in found
