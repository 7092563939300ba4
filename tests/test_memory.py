"""Batches that fit a budget, what happens when memory runs out, and passes of reduced precision."""

import numpy as np
import pytest
import torch

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.training import Batch as MendBatch
from aftershock.editors.mend.training import new_optimizer, train_step
from aftershock.editors.methods import find_methods
from aftershock.lm import memory
from aftershock.lm.edits import Batch, LowRank, apply_deltas
from aftershock.lm.generation import continue_greedily
from aftershock.lm.gradients import Texts
from aftershock.lm.memory import batch_limit, byte_budget, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.networks.label_encoder import ModelEncoder
from aftershock.lm.optimisation import values
from aftershock.lm.optimisation.objective import Objective
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.pretraining.fitting import fit, new_model
from aftershock.lm.pretraining.rows import Rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.scoring import score
from aftershock.lm.statistics.moments import second_moments
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import Query
from editing import log_probs, make, singles
from narrow import NarrowKernelError, NoNarrowKernels
from tiers import of_families, of_methods
from tiny import CITIES, FAMILIES, NAMES, ROUNDING, TEXTS, requests, tiny

CONTEXTS = ["{}", "It rains. {}"]
BASE = {"steps": 3, "lr": 0.3, "weight_decay": 0.4, "clamp": 4.0, "kl_factor": 0.3}


def test_parts_stay_within_the_limit_and_cover_all_rows():
    found = run_in_parts([1, 1, 3, 3, 9, 1, 20, 2], 10, lambda part: sum(part), "adding")
    assert [(part.start, part.stop) for part, _ in found] == [(0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
    assert [result for _, result in found] == [sum(part) for part, _ in found]
    assert run_in_parts([], 10, sum, "adding") == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
)
def test_a_part_that_runs_out_of_memory_is_halved_and_so_are_those_after_it(error):
    tried = []

    def run(part):
        tried.append(len(part))
        if len(part) > 3:
            raise error
        return list(part)

    found = run_in_parts([1] * 20, 8, run, "adding")
    assert [row for _, rows in found for row in rows] == list(range(20))
    assert tried == [8, 4, *[2] * 10]


def test_a_row_too_large_by_itself_is_run_another_way_or_named_with_what_it_needs():
    def run(part):
        raise torch.OutOfMemoryError("CUDA out of memory")

    found = run_in_parts([1, 1], 2, run, "adding", alone=lambda part: "slowly")
    assert [result for _, result in found] == ["slowly", "slowly"]
    with pytest.raises(MemoryError, match=r"adding ran out of memory with a single case.* 2\.00 GiB beside"):
        run_in_parts([2 << 30], 1 << 30, run, "adding")
    with pytest.raises(MemoryError, match="single case"):
        run_in_parts([1], 2, run, "adding", alone=run)


def test_errors_that_are_not_about_memory_are_not_touched():
    def run(part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_in_parts([1] * 4, 2, run, "adding")


def test_the_budget_of_a_cpu_is_that_of_every_machine():
    lm = tiny()
    assert byte_budget(lm) == memory.CPU_BYTES
    per_token = token_bytes(lm, 2, 10, backward=True)
    assert per_token == 2 * token_bytes(lm, 1, 10, backward=False)
    assert batch_limit(lm, per_token, 100) == 100 * per_token
    assert batch_limit(lm, memory.CPU_BYTES, 100) == memory.CPU_BYTES


def short_of_memory(monkeypatch, lm, rows):
    """Make the model fail on a batch of more than `rows` rows."""
    run = lm.run

    def limited(ids, *args, **options):
        if len(ids) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(ids, *args, **options)

    monkeypatch.setattr(lm, "run", limited)


@pytest.mark.parametrize("method", ["ft", "memit", "rome"])
def test_edits_and_scores_come_out_the_same_when_memory_is_short(method, monkeypatch):
    lm, cases = tiny(), singles(6)
    editor = make(method, lm, [["{}"]], layers=[0], steps=4)
    whole = editor.edit(cases)
    scores = log_probs(lm, cases, whole.delta)
    short_of_memory(monkeypatch, lm, 4)
    parts = editor.edit(cases)
    assert torch.allclose(parts.delta[0].dense(), whole.delta[0].dense(), atol=1e-8)
    assert parts.steps == whole.steps
    assert torch.allclose(log_probs(lm, cases, whole.delta), scores, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_layers_that_are_run_again_for_the_gradient_change_nothing(family, monkeypatch):
    lm, asked = tiny(family), requests(2)
    objective = Objective(0, "mlp", **BASE)
    kept = solve_values(lm, asked, CONTEXTS, objective)
    again, tried = values._solve, []

    def only_checkpointed(*args):
        tried.append(args[-1])
        if not args[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return again(*args)

    monkeypatch.setattr(values, "_solve", only_checkpointed)
    found = solve_values(lm, asked, CONTEXTS, objective)
    assert tried.count(True) == len(asked)  # each by itself
    assert not tried[0]
    assert torch.allclose(found.delta, kept.delta, atol=100 * ROUNDING[family])
    assert not any("forward" in vars(m) for m in lm.model.modules())


def test_fine_tuning_keeps_less_when_a_case_does_not_fit(monkeypatch):
    cases, editor = singles(2), make("ft", tiny(), steps=4)
    kept, train = editor.edit(cases), editor._train

    def only_checkpointed(some, state, checkpoint):
        if not checkpoint:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(some, state, checkpoint)

    monkeypatch.setattr(editor, "_train", only_checkpointed)
    found = editor.edit(cases)
    assert torch.allclose(found.delta[0].weight, kept.delta[0].weight, atol=1e-10)


# --- precision ---------------------------------------------------------------------------------------------
def in_precision(precision):
    """A float32 model whose passes have a given precision."""
    strict = tiny("gpt2", torch.float32)
    return LanguageModel(strict.model, strict.tokenizer, precision=precision)


def test_bfloat16_is_for_frozen_weights_only():
    strict, reduced = in_precision("strict"), in_precision("bf16")
    g = torch.Generator().manual_seed(0)
    U, V = (
        torch.randn(2, 1, width, generator=g) for width in (strict.weight(strict.projection(0)).shape[::-1])
    )
    state = (LowRank(strict.projection(0), U, V),)
    queries = [Query(r.text, r.target_new, i % 2) for i, r in enumerate(requests(4))]
    exact = torch.tensor([s.logprob for s in score(strict, queries, state)])
    rough = torch.tensor([s.logprob for s in score(reduced, queries, state)])
    assert not torch.equal(exact, rough)
    assert torch.allclose(exact, rough, rtol=0.05)
    x = torch.randn(2, 3, U.shape[2], generator=g)
    module = reduced.model.get_submodule(reduced.projection(0))
    rows = torch.tensor([0, 1])
    batch = Batch.of_prompts(torch.zeros(2, 3), torch.ones(2, 3), rows)
    with reduced.reduced():
        plain = module(x)
        with apply_deltas(reduced, state, batch):
            changed = module(x)
    assert plain.dtype == torch.bfloat16
    assert changed.dtype == torch.float32
    assert torch.equal(changed - plain, (plain + state[0].change(x, rows)) - plain)


def test_what_an_edit_is_computed_from_is_exact_in_every_precision():
    objective = Objective(0, "mlp", **BASE)
    strict, reduced = (
        solve_values(in_precision(p), requests(3), CONTEXTS, objective) for p in ("strict", "bf16")
    )
    assert torch.equal(strict.keys, reduced.keys)
    assert torch.equal(strict.init, reduced.init)
    assert strict.delta.dtype == reduced.delta.dtype == torch.float32
    assert not torch.equal(strict.delta, reduced.delta)


def test_tf32_is_left_as_it_was_found():
    lm, matmul = in_precision("tf32"), torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with lm.reduced():
        assert matmul.fp32_precision == "tf32"
        with lm.reduced("strict"):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    assert matmul.fp32_precision == before


# --- nothing narrow on a CPU by default: most of them only emulate it ---------------------------------------
SIZES = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32, "vocab_size": 420}


def queries(n: int = 3) -> list[Query]:
    return [Query(request.text, request.target_new) for request in requests(n)]


def train_once() -> None:
    tokenizer = tiny().tokenizer
    rows = Rows(np.arange(48).reshape(3, 16), np.ones((3, 16), dtype=np.float32))
    fit(new_model(SIZES, tokenizer, 0), rows, TrainSettings(batch_rows=1, row_tokens=16))


def test_the_guard_notices_what_emulates_bfloat16():
    matrix = torch.nn.Parameter(torch.ones(2, 3))
    matrix.grad = torch.ones(2, 3)
    with pytest.raises(NarrowKernelError, match="bfloat16 on a CPU"), NoNarrowKernels():
        torch.optim.Muon([matrix]).step()
    with pytest.raises(NarrowKernelError), NoNarrowKernels(), torch.autocast("cpu"):
        torch.ones(2, 3) @ torch.ones(3, 2)
    asked = LanguageModel(tiny(dtype=torch.float32).model, tiny().tokenizer, precision="bf16")
    with pytest.raises(NarrowKernelError), NoNarrowKernels():
        score(asked, queries())


def test_training_a_model():
    with NoNarrowKernels():
        train_once()


def test_moments_scores_continuations_and_similarities():
    lm = tiny(dtype=torch.float32)
    with NoNarrowKernels():
        second_moments(lm, TEXTS[:4], [0, 1])
        score(lm, queries())
        continue_greedily(lm, [query.prompt for query in queries()], 3)
        ModelEncoder(lm).within(CITIES)(CITIES[:2])


@pytest.mark.parametrize("method", of_methods(sorted(find_methods())))
def test_edits(method):
    lm = tiny(dtype=torch.float32)
    editor = make(method, lm)
    with NoNarrowKernels():
        score(lm, queries(1), editor.edit(singles(2)).delta)


def test_training_a_hypernetwork():
    lm = tiny(dtype=torch.float32)
    settings = MendTraining(rank=4, accumulate=1)
    net = Hypernetwork.of(lm, [1], rank=4)
    pairs = encode_pairs(lm, [(f"{name} lives in", city) for name, city in zip(NAMES, CITIES, strict=True)])
    texts = [Texts.of(lm, [pair], [0]) for pair in pairs[:3]]
    with NoNarrowKernels():
        train_step(lm, net, MendBatch(1, *texts), settings, new_optimizer(net, settings), 0)


def test_a_checkpoint_in_bfloat16_is_computed_in_float32(tmp_path):
    lm = tiny(dtype=torch.float32)
    lm.model.to(torch.bfloat16).save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    loaded = LanguageModel.load(tmp_path)
    assert loaded.dtype == torch.float32
    with NoNarrowKernels():
        score(loaded, queries())
