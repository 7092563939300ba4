"""Plans of sequences: turns, orders and groups of checkpoints, against slow code."""

import random

import pytest

from aftershock.experiments.sequences.plan import Plan, Turn


def plan(mode="sequential", batch=1, checkpoints=(0, 2, 5), orders=(0,)):
    return Plan(mode, batch, tuple(checkpoints), tuple(orders))


def made_by_hand(turns: tuple[Turn, ...]) -> dict[int, list[int]]:
    """The edits that a model has at each checkpoint, by making the turns one after another."""
    state: list[int] = []
    found = {}
    for turn in turns:
        if turn.is_fresh:
            state = []
        assert len(state) == turn.before
        state = state + list(turn.positions)
        if turn.checkpoint is not None:
            found[turn.checkpoint] = state
    return found


def slow_plan(mode, batch, checkpoints):
    """Return a model's edits at each checkpoint, and those made together on the way, from the words alone."""
    has, together = {}, []
    for n in checkpoints:
        if n and mode == "single":
            has[n] = [i for i in range(1, n + 1) if batch is None or i > n - batch]
            together.append(has[n])
        elif n:
            has[n] = [i for i in range(1, n + 1)]
    if mode == "sequential":
        last = max(checkpoints)
        together = [[i for i in range(1, last + 1) if (i - 1) // batch == b] for b in range(last // batch)]
    return has, together


def test_plans_are_those_of_slow_code():
    draw, sound = random.Random(0), 0
    for _ in range(500):
        mode, batch = draw.choice(["sequential", "single"]), draw.choice([1, 1, 2, 3, None])
        step = draw.choice([1, batch or 1])
        numbers = sorted(draw.sample(range(0, 13), draw.randint(1, 5)))
        p = plan(mode, batch, [n * step for n in numbers])
        edited = [n for n in p.checkpoints if n]
        if mode == "sequential":
            fits = batch is not None and all(n % batch == 0 for n in edited)
        else:
            fits = all(n >= (batch or 1) for n in edited)
        assert (not list(p.faults())) == (fits and bool(edited))
        if fits and edited:
            sound += 1
            has, together = slow_plan(mode, batch, p.checkpoints)
            assert made_by_hand(p.turns) == has == {n: list(p.made_at(n)) for n in edited}
            assert [list(turn.positions) for turn in p.turns] == together
            assert [turn.number for turn in p.turns] == list(range(1, len(together) + 1))
            assert {n: list(p.latest_at(n)) for n in edited} == {
                n: next(each for each in together if each[-1] == n) for n in edited
            }
            for size in (None, 1, 2, 3):
                parts = [p.checkpoints_of(group) for group in p.groups(size)]
                assert [n for part in parts for n in part] == edited
                assert max(map(len, parts)) <= (size or 99)
    assert sound > 200


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
