"""Edit logs: damaged, of others, written by two; and their size."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import pytest
import torch

from aftershock.editors.contract import EditResult
from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.log import MANIFEST, EditLog
from aftershock.experiments.sequences.plan import Plan
from aftershock.experiments.sequences.probes import probe, probe_checkpoints
from aftershock.experiments.sequences.run import edits_in_order, identity_of, load_edits
from aftershock.experiments.sequences.writing import publish, unfinished, writing
from aftershock.lm.edits import EMPTY, LowRank
from aftershock.lm.edits.accumulate import accumulate
from aftershock.lm.scoring import score
from aftershock.requests import Query
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_OBSERVATIONS
from editing import identical
from sequenced import IDENTITY, Faulty, edits, opened, plan, run, same
from small_workflow import DEADLINE
from tiny import dense, tiny

PLAN = plan(0, 2, 3, 5)
CHUNKS = ["00001-00002.safetensors", "00003-00003.safetensors", "00004-00005.safetensors"]


@pytest.fixture
def folder(tmp_path):
    run(Faulty(tiny(), {}), PLAN, tmp_path / "log")
    return tmp_path / "log"


# --- damage ------------------------------------------------------------------------------------------------
def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "lost": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_chunk_is_named_and_what_is_sound_is_kept(damage, folder, tmp_path):
    wanted = run(Faulty(tiny(), {}), PLAN, tmp_path / "other")
    DAMAGE[damage](folder / CHUNKS[1])
    log = opened(folder)
    assert identical(log.state(2), wanted.state(2))
    with pytest.raises(ValueError, match=rf"{CHUNKS[1]} is .*the log is sound up to 2 edits"):
        log.state(3)
    with pytest.raises(ValueError, match=CHUNKS[1]):
        log.state(5)
    editor = Faulty(tiny(), {})
    editor.calls = 2
    assert same(run(editor, PLAN, folder), wanted)
    assert editor.calls == 5  # edits 3 to 5 are made again


@pytest.mark.parametrize("text", ["", "{}", '{"log": 1}', "[1]"])
def test_a_damaged_manifest_is_named_and_a_writer_begins_anew(text, folder, tmp_path):
    wanted = run(Faulty(tiny(), {}), PLAN, tmp_path / "other")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=f"{MANIFEST}.*run again"):
        opened(folder)
    assert same(run(Faulty(tiny(), {}), PLAN, folder), wanted)


def test_a_manifest_that_was_changed_is_refused(folder):
    path = folder / MANIFEST
    path.write_text(path.read_text().replace("00001-00002", "00001-00001"))
    with pytest.raises(ValueError, match="not as it was written"):
        opened(folder)


def test_a_folder_without_manifest_is_no_log(tmp_path):
    with pytest.raises(ValueError, match="is no edit log"):
        opened(tmp_path)


# --- whose log ---------------------------------------------------------------------------------------------
def test_a_log_of_other_weights_is_refused(folder):
    with pytest.raises(
        ValueError, match="edits of other weights: their sha256 is of the weights, that of these x"
    ):
        EditLog.open(folder, "x")


@pytest.mark.parametrize("name", ["weights_sha256", "method", "seed"])
def test_a_writer_does_not_go_on_with_a_log_of_something_else(name, folder):
    with (
        pytest.raises(ValueError, match=f"is another log: {name} is"),
        writing(folder, {**IDENTITY, name: "other"}, {}),
    ):
        pass
    assert same(opened(folder), opened(folder))


def test_an_identity_covers_edits_artifacts_and_settings(tmp_path):
    (tmp_path / "moments").write_text("1")

    def made(**changes):
        given = {
            "weights_sha256": "w",
            "plan": PLAN,
            "order": 0,
            "edits": edits(5),
            "artifacts": [tmp_path / "moments"],
            "made_by": {"settings": {"lr": 0.1}},
        } | changes
        return unfinished(tmp_path / "log", identity_of(**given)).name

    found = [made(), made(order=1), made(edits=edits(5)[::-1]), made(plan=plan(5)), made(weights_sha256="v")]
    found.append(made(made_by={"settings": {"lr": 0.2}}))
    (tmp_path / "moments").write_text("2")
    found.append(made())
    assert len(set(found)) == len(found)
    assert made() == found[-1]


def test_edits_are_the_kept_ones_in_the_order_of_the_plan(tmp_path):
    rows = pd.DataFrame(
        {
            "edit_id": [2, 1, 0],
            "source_id": ["c", "b", "a"],
            "prompt": "{} was born in",
            "subject": ["C", "B", "A"],
            "target_new": ["Oslo", "Rome", "Graz"],
            "target_true": "",
            "relation": None,
            "kept": [True, False, True],
            "reason": None,
        }
    )
    assert [edit.edit_id for edit in edits_in_order(rows, plan(2), 0)] == [0, 2]
    SEQUENCE_EDITS.write(rows, tmp_path / "edits.parquet")
    assert [request.subject for request in load_edits(tmp_path / "edits.parquet")] == ["A", "C"]


def test_a_log_is_moved_whole_and_leftovers_of_others_go(tmp_path):
    target = tmp_path / "log"
    other, mine = unfinished(target, {"a": 1}), unfinished(target, {"a": 2})
    for path in (other, mine, target):
        run(Faulty(tiny(), {}), PLAN, path)
    publish(mine, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
    assert same(opened(target), opened(target))


FORK = multiprocessing.get_context("fork")  # whose processes have imported everything


def hold(folder: Path, pipe: Connection) -> None:
    """Hold a log until told to end."""
    with writing(folder, IDENTITY, {}):
        pipe.send("held")
        pipe.recv()


def test_a_second_writer_is_refused_and_told_of_the_first(tmp_path):
    pipe, other = FORK.Pipe()
    first = FORK.Process(target=hold, args=(tmp_path / "log", other))
    first.start()
    assert pipe.recv() == "held"
    with (
        pytest.raises(ValueError, match=rf"another run is working in {tmp_path}/log/: process {first.pid}"),
        writing(tmp_path / "log", IDENTITY, {}),
    ):
        pass
    pipe.send("end")
    first.join(DEADLINE)
    with writing(tmp_path / "log", IDENTITY, {}) as writer:
        assert writer.turns == 0


# --- what is kept ------------------------------------------------------------------------------------------
class WholeMatrices(Faulty):
    """Changes a whole matrix."""

    def edit(self, cases, state=(), memory=None):
        self.calls += 1
        return EditResult((dense(self.lm, 0, 1, seed=self.calls),), (1,), (0.5,), (None,))


def test_whole_matrices_are_kept_at_checkpoints_only(tmp_path):
    lm = tiny()
    log = run(WholeMatrices(lm, {}), PLAN, tmp_path / "log")
    state = EMPTY
    for seed in range(1, 6):
        state = accumulate(state, (dense(lm, 0, 1, seed=seed),))
        if seed in PLAN.edited:
            assert identical(log.state(seed), state)
    with pytest.raises(ValueError, match=r"cannot replay 4 edits.* checkpoints only, here 2, 3, 5"):
        log.state(4)
    with pytest.raises(ValueError, match="no state after 6 edits"):
        log.state(6)
    matrix = lm.weight(lm.projection(0)).numel() * 8
    assert (tmp_path / "log" / CHUNKS[2]).stat().st_size < 1.2 * matrix + 30_000  # one, though of two edits


WIDTHS = 4096, 11008
"""Of an MLP of Llama-2-7B."""


def test_a_thousand_edits_of_rank_one_of_a_wide_model_are_less_than_100_mb(tmp_path):
    made = Plan("sequential", 1, (500, 1000))
    draw = torch.Generator().manual_seed(0)
    with writing(tmp_path / "log", IDENTITY, {}) as writer:
        for turn in made.turns:
            V, U = (torch.randn(1, 1, width, generator=draw) for width in WIDTHS)
            writer.add(turn, (LowRank("model.layers.5.mlp.down_proj", U, V),), [])
            if turn.checkpoint:
                writer.close_chunk(EMPTY, EMPTY, None)
    files = list((tmp_path / "log").iterdir())
    assert sum(file.stat().st_size for file in files) < 100e6
    chunks = opened(tmp_path / "log")._chunk(1)
    assert [number for number, _ in chunks.turns()] == list(range(501, 1001))
    assert torch.equal(chunks.state("turn.1000")[0].U, U)


# --- probes ------------------------------------------------------------------------------------------------
def test_probes_of_the_edits_made_so_far(folder):
    lm, log = tiny(), opened(folder)
    rows = [
        (100 + i, role, number, edit.request.text, edit.request.target_new, "Ulm" if role == "edit" else None)
        for i, edit in enumerate(edits(5))
        for role, number in (("edit", 0), ("neighbour", 0), ("neighbour", 1))
    ]
    probes = pd.DataFrame(rows, columns=["edit_id", "role", "number", "prompt", "target", "other"])
    made_at = [(2, [100, 101]), (5, [100, 101, 102, 103, 104])]
    found = probe_checkpoints(lm, log, probes, made_at)
    SEQUENCE_OBSERVATIONS.check(found)
    assert len(found) == 3 * (2 + 5)
    for row in found.itertuples(index=False):
        request = edits(5)[row.edit_id - 100].request
        new, old = (Query(request.text, target) for target in (request.target_new, "Ulm"))
        scored = score(lm, [new, old], log.state(row.checkpoint))
        assert row.logprob == pytest.approx(scored[0].logprob, abs=1e-9)
        assert row.argmax_match == scored[0].argmax_match
        assert row.n_tokens == len(scored[0].token_logprobs)
        if row.role == "edit":
            assert row.other_logprob == pytest.approx(scored[1].logprob, abs=1e-9)
        else:
            assert pd.isna(row.other_logprob)
    unedited = probe(lm, probes)
    assert set(unedited["checkpoint"]) == {0}
    with at_checkpoint(lm, log, 0) as state:
        pd.testing.assert_frame_equal(unedited, probe(lm, probes, 0, state))


def test_checkpoints_that_were_not_reached_have_no_rows(tmp_path):
    lm = tiny()
    log = run(Faulty(lm, {1: float("nan")}), PLAN, tmp_path / "log")
    probes = pd.DataFrame(columns=["edit_id", "role", "number", "prompt", "target", "other"])
    found = probe_checkpoints(lm, log, probes, [(2, [100]), (5, [100])])
    SEQUENCE_OBSERVATIONS.check(found)
    assert found.empty
