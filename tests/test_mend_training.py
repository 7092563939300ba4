"""MEND's training, and a killed one that goes on as if nothing had happened."""

import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend import training as mend_training
from aftershock.editors.mend.checkpoint import load_checkpoint
from aftershock.editors.mend.data import Pool, train_hypernetwork
from aftershock.editors.mend.training import (
    Batch,
    divergence,
    due,
    losses,
    new_optimizer,
    train,
    train_step,
    validate,
)
from aftershock.lm.edits import LowRank
from aftershock.lm.gradients import Texts
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.seeds import generator
from aftershock.tables.runs import MEND_CURVE
from scoped import training_rows
from tiers import repeated
from tiny import NAMES, next_log_probs, tiny, written

QUICK = {"rank": 8, "edit_lr": -0.05, "lr": 3e-3, "cedit": 1.0, "accumulate": 2, "batch_edits": 3}
QUICK |= {"first_update": "exact", "steps": 12, "val_interval": 4, "val_edits": 6}


def rows():
    """Training edits and locality texts of both splits, no subject in both."""
    return training_rows(NAMES[:5], NAMES[5:])


def pool(lm, split="train", **changes):
    edits, local = rows()
    settings = MendTraining(**{**QUICK, **changes})
    return Pool.of(lm, edits[edits["split"] == split], local[local["split"] == split], settings)


# --- drawing ----------------------------------------------------------------------------------------------
def test_texts_to_leave_alone_are_about_other_subjects():
    lm = tiny()
    edits = pool(lm, batch_edits=7, locality_texts=3, same_relation=0.5)
    for step in range(5):
        batch = edits.draw(generator(0, step))
        assert batch.edits == 7
        assert batch.local.cases.tolist() == [i for i in range(7) for _ in range(3)]
        for edit, row in zip(batch.local.cases.tolist(), batch.local.ids, strict=True):
            subject = lm.tokenizer.decode(batch.inner.ids[edit])
            own = next(name for name in NAMES if name in subject)
            assert own not in lm.tokenizer.decode(row)
    edits, local = rows()
    alone = local[local["subject"] == NAMES[0]]
    with pytest.raises(ValueError, match="all locality texts are about one subject"):
        Pool.of(lm, edits[edits["subject"] == NAMES[0]], alone, MendTraining(**QUICK)).draw(generator(0))
    with pytest.raises(ValueError, match="no locality text"):
        Pool.of(lm, edits, local[:0], MendTraining(**QUICK))


# --- losses and updates ------------------------------------------------------------------------------------
def fresh(lm, settings, layers=(1, 2)):
    return Hypernetwork.of(lm, layers, rank=settings.rank, edit_lr=settings.edit_lr, seed=3)


def test_losses_are_those_of_the_written_model_text_by_text():
    lm = tiny()
    batch = pool(lm, locality_texts=2).draw(generator(1))
    found = losses(lm, fresh(lm, MendTraining(**QUICK)), batch, observe=True)
    state = tuple(LowRank(d.module, d.U.detach(), d.V.detach()) for d in found.state)
    for case in range(batch.edits):
        model = written(lm, state, case)
        (row,) = (batch.outer.cases == case).nonzero()[:, 0].tolist()
        ids = batch.outer.ids[row][batch.outer.mask[row].bool()].tolist()
        read, tokens = (t[row][batch.outer.valid[row]] for t in (batch.outer.read, batch.outer.tokens))
        nll = -next_log_probs(model, ids)[read, tokens].mean()
        assert found.edit[case].item() == pytest.approx(nll.item(), rel=1e-8)
        total, count = 0.0, 0
        for row in (batch.local.cases == case).nonzero()[:, 0].tolist():
            ids = batch.local.ids[row][batch.local.mask[row].bool()].tolist()
            before, after = next_log_probs(lm, ids), next_log_probs(model, ids)
            total += (before.exp() * (before - after)).sum().item()
            count += len(ids)
        assert found.local[case].item() == pytest.approx(total / count, rel=1e-8)
    assert divergence(lm, batch.local, (), batch.edits).abs().max() < 1e-12


def test_edits_side_by_side_give_the_mean_of_their_gradients():
    lm, settings = tiny(), MendTraining(**QUICK)
    batch, net = pool(lm).draw(generator(2)), fresh(lm, settings)
    losses(lm, net, batch, observe=True)  # so that there is something to normalise with
    parameters = list(net.parameters())
    together = torch.autograd.grad(losses(lm, net, batch, False).total(settings), parameters)
    alone = []
    for case in range(batch.edits):
        parts = [of_case(texts, case) for texts in (batch.inner, batch.outer, batch.local)]
        total = losses(lm, net, Batch(1, *parts), False).total(settings)
        alone.append(torch.autograd.grad(total, parameters))
    for found, *each in zip(together, *alone, strict=True):
        assert torch.allclose(found, torch.stack(each).mean(dim=0), rtol=1e-8, atol=1e-12)


def of_case(texts, case):
    mine = texts.cases == case
    tensors = {name: value[mine] for name, value in vars(texts).items() if value is not None}
    return Texts(**{**tensors, "cases": tensors["cases"] * 0})


def test_updates_come_when_they_are_due():
    exact = MendTraining(accumulate=3, first_update="exact")
    released = MendTraining(accumulate=3)
    assert [step for step in range(10) if due(step, exact)] == [2, 5, 8]
    assert [step for step in range(10) if due(step, released)] == [3, 6, 9]


def test_a_gradient_that_is_not_finite_is_left_out(monkeypatch):
    lm, settings = tiny(), MendTraining(**QUICK)
    net, edits = fresh(lm, settings), pool(lm)
    optimizer = new_optimizer(net, settings)
    before = {name: value.clone() for name, value in net.named_parameters()}
    monkeypatch.setattr(mend_training, "divergence", lambda *_: torch.tensor([math.nan] * 3))
    monkeypatch.setattr(
        mend_training.Losses, "total", lambda self, _: (self.edit * math.nan).mean(), raising=True
    )
    assert all(
        train_step(lm, net, edits.draw(generator(i)), settings, optimizer, i) is None for i in range(4)
    )
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
    with pytest.raises(ValueError, match=r"ended without a finite dev loss after 12 batches \(12 skipped\)"):
        train(lm, net, edits.draw, pool(lm, "dev").development(0), settings)


def test_training_lowers_the_dev_loss_and_keeps_the_best():
    lm = tiny()
    settings = MendTraining(**{**QUICK, "steps": 60, "val_interval": 10, "decay": True})
    dev = pool(lm, "dev").development(0)
    net, curve = train(lm, fresh(lm, settings), pool(lm).draw, dev, settings)
    totals = [row["val_total"] for row in curve]
    assert [row["step"] for row in curve] == list(range(10, 61, 10))
    assert min(totals) < totals[0]
    assert validate(lm, net, dev, settings)["val_total"] == pytest.approx(min(totals), rel=1e-12)


def test_training_ends_when_dev_gets_no_better(monkeypatch):
    lm = tiny()
    settings = MendTraining(**{**QUICK, "steps": 500, "patience": 8})
    looks = iter([3.0, 2.0, 2.0, 2.5, 1.0])
    monkeypatch.setattr(mend_training, "validate", lambda *_: {"val_total": next(looks), "success": 0.0})
    _, curve = train(lm, fresh(lm, settings), pool(lm).draw, [], settings)
    assert [row["step"] for row in curve] == [4, 8, 12, 16]


# --- going on ----------------------------------------------------------------------------------------------
def run(lm, path=None, stop=None, **changes):
    """Train; with `stop`, end at that batch as a kill would, a checkpoint after every update."""
    settings = MendTraining(**{**QUICK, **changes})
    edits = pool(lm)
    drawn = []

    def draw(rng: np.random.Generator):
        drawn.append(0)
        if stop is not None and len(drawn) > stop:
            raise KeyboardInterrupt
        return edits.draw(rng)

    dev = pool(lm, "dev").development(0)
    return train(lm, fresh(lm, settings), draw, dev, settings, 5, path, "this", checkpoint_seconds=0.0)


@pytest.mark.parametrize("stop", [3, repeated(4), 9])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, stop):
    lm, path = tiny(dtype=torch.float32), tmp_path / "checkpoint.safetensors"
    undisturbed, curve = run(lm)
    with pytest.raises(KeyboardInterrupt):
        run(lm, path, stop)
    resumed, again = run(lm, path)
    wanted = undisturbed.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())
    curves = (pd.DataFrame(rows).drop(columns="seconds") for rows in (again, curve))
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_a_checkpoint_of_something_else_is_discarded(tmp_path, caplog):
    lm, path = tiny(dtype=torch.float32), tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(lm, path, 4)
    net = fresh(lm, MendTraining(**QUICK))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(path, net, new_optimizer(net, MendTraining(**QUICK)), "other") is None
    assert "other weights, settings or data: discarded" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_stage_makes_a_hypernetwork_and_its_curve(tmp_path):
    lm = tiny()
    edits, local = rows()
    net, curve = train_hypernetwork(lm, edits, local, (1,), MendTraining(**QUICK), 0, "abc")
    assert {lm.layer_of(name) for name in net.shapes} == {1}
    MEND_CURVE.write(curve, tmp_path / "curve.parquet", {})
    assert MEND_CURVE.read(tmp_path / "curve.parquet")["step"].tolist() == [4, 8, 12]
