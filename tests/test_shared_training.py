"""Training that several processes share: the same bits as one, and an end for all; and Muon's steps."""

import math
import signal
from collections.abc import Callable
from textwrap import dedent

import numpy as np
import psutil
import pytest
import torch

from aftershock.lm.pretraining.fitting import WORKER, Share, fit, new_model, object_loss
from aftershock.lm.pretraining.muon import Muon, orthogonalize
from aftershock.lm.pretraining.processes import WorkerEndedError, Workers, nameless_file
from aftershock.lm.pretraining.rows import Rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.shared_memory import map_tensors
from aftershock.lm.pretraining.training import train_language_model
from small_workflow import DEADLINE, gone
from tiny import small_tokenizer

SIZES = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32}
SETTINGS = TrainSettings(batch_rows=3, row_tokens=16, parts=2, warmup=0.3)


def rows(n: int) -> Rows:
    draw = np.random.default_rng(0)
    weights = draw.choice(np.array([0.0, 0.2, 1.0], dtype=np.float32), (n, 16))
    return Rows(draw.integers(0, len(small_tokenizer()), (n, 16)), weights)


def model() -> torch.nn.Module:
    return new_model(SIZES, small_tokenizer(), 0)


@pytest.fixture(autouse=True)
def others():
    """Children of this process that other tests started, and will use again."""
    EARLIER.clear()
    EARLIER.update(process.pid for process in psutil.Process().children())
    return EARLIER


EARLIER: set[int] = set()


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process.pid not in EARLIER]


def test_two_processes_train_to_the_bits_of_one():
    alone, together = model(), model()
    data = rows(10)  # the last batch has one row, so that one of its parts is empty
    losses = fit(alone, data, SETTINGS)
    with Workers(WORKER, 1) as workers:
        assert fit(together, data, SETTINGS, workers=workers) == losses
    assert len(losses) == 4
    before = model()
    pairs = zip(before.parameters(), alone.parameters(), together.parameters(), strict=True)
    for old, one, two in pairs:
        assert torch.equal(one, two)
        assert not torch.equal(old, one)
        assert one.untyped_storage().nbytes() == one.numel() * 4  # no longer a piece of what was shared
    assert not children()


def test_parts_have_the_gradient_of_the_whole_batch():
    """One step of each: the loss is that of the whole, and so is the sum of gradients."""
    whole, data = model(), rows(4)
    ids, weights = torch.from_numpy(data.ids), torch.from_numpy(data.weights)
    loss = object_loss(whole, ids, weights) / weights[:, 1:].sum()
    logits = whole(ids).logits[:, :-1].log_softmax(-1)
    slow = -logits.gather(2, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(loss, (slow * weights[:, 1:]).sum() / weights[:, 1:].sum())
    trained = []
    for parts in (1, 3, 4):
        trained.append(model())
        settings = TrainSettings(batch_rows=4, row_tokens=16, parts=parts, lr=1e-3, adam_lr=1e-3)
        (found,) = fit(trained[-1], data, settings)
        assert found == pytest.approx(loss.item(), rel=1e-5)
    for one, *others in zip(*(m.parameters() for m in trained), strict=True):
        for other in others:
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_a_share_is_dealt_out_in_turns():
    assert [list(Share(number, 2).of(5)) for number in (0, 1)] == [[0, 2, 4], [1, 3]]


@pytest.fixture
def meeting(tmp_path, monkeypatch):
    """A worker that does nothing but keep in step."""
    code = """
    from aftershock.lm.pretraining.processes import Main
    main = Main()
    main.receive()
    print("is told to the log, and to nobody else")
    while True:
        main.meet()
    """
    (tmp_path / "meeting.py").write_text(dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "meeting"


def meet(module: str, count: int, after_three: Callable[[], None]) -> None:
    """Meet `count` workers three times, do something, and meet them until somebody has ended."""
    with Workers(module, count) as workers:
        workers.send([{}] * count)
        for _ in range(3):
            workers.meet()
        after_three()
        while True:
            workers.meet()


def test_a_worker_that_is_killed_ends_the_work_with_one_error(meeting):
    with pytest.raises(WorkerEndedError, match=r"process \d+, .* was killed by SIGKILL: memory may have run"):
        meet(meeting, 2, lambda: children()[1].kill())
    assert not children()


def test_workers_end_with_an_error_of_the_main_process(meeting):
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meet(meeting, 1, fail)
    assert not children()


def test_a_worker_that_fails_is_named_with_its_exit_code():
    with (
        pytest.raises(WorkerEndedError, match=r"ended with exit code 1: its error is in the log"),
        Workers("aftershock.no_such_module", 1) as workers,
    ):
        workers.meet()
    with (
        pytest.raises(WorkerEndedError, match="ended with exit code 0"),  # it says other things than agreed
        Workers("this", 1) as workers,
    ):
        workers.meet()


def test_no_worker_outlives_a_main_process_that_was_killed(python):
    code = f"""
    import time
    from aftershock.lm.pretraining.processes import Workers
    with Workers({WORKER!r}, 1) as workers:
        print(workers._running[0].pid, flush=True)
        time.sleep({DEADLINE})
    """
    main = python(code)
    try:
        worker = psutil.Process(int(main.stdout.readline()))
        main.send_signal(signal.SIGKILL)
        assert gone([worker], DEADLINE)
    finally:
        main.kill()
        main.communicate(timeout=DEADLINE)


def test_a_loss_that_is_not_finite_ends_all_and_changes_nothing():
    broken, data = model(), rows(6)
    with torch.no_grad():
        broken.transformer.h[0].mlp.c_fc.weight[0, 0] = math.nan
    kept = [p.detach().clone() for p in broken.parameters()]
    with pytest.raises(ValueError, match="diverged at step 0 of 2: the loss is nan"):
        fit(broken, data, SETTINGS)
    for before, now in zip(kept, broken.parameters(), strict=True):
        assert torch.equal(before.nan_to_num(), now.detach().nan_to_num())


def test_shared_tensors_are_seen_by_all_at_aligned_addresses():
    layout = {"a": ("int64", [3]), "b": ("float32", [2, 5])}
    file = nameless_file()
    one, two = (map_tensors(file, layout) for _ in range(2))
    assert all((tensor == 0).all() for tensor in one.values())
    assert [tensor.data_ptr() % 64 for tensor in one.values()] == [0, 0]
    one["b"][1, 4], one["a"][0] = 0.5, 7
    assert two["b"].tolist() == [[0.0] * 5, [0.0] * 4 + [0.5]]
    assert two["a"].tolist() == [7, 0, 0]
    assert two["b"].dtype == torch.float32


def test_more_parts_than_rows_are_refused():
    with pytest.raises(ValueError, match=r"train\.parts is 9, more than train\.batch_rows \(8\)"):
        train_language_model(iter([]), SIZES, TrainSettings(parts=9, row_tokens=16))


# --- Muon ---------------------------------------------------------------------------------------------------
SHAPES = [(6, 6), (6, 15), (15, 6), (1, 4)]


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """Five iterations as Jordan et al. (2024) write them, on the matrix itself."""
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / x.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def random(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_is_the_plain_iteration(shape):
    exact = random(shape, dtype=torch.float64)
    torch.testing.assert_close(orthogonalize(exact), newton_schulz(exact), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(orthogonalize(exact.float()), newton_schulz(exact).float(), rtol=0, atol=1e-4)


def test_singular_values_come_close_to_one_and_a_matrix_of_zeros_stays():
    wide = random((20, 50))
    found = torch.linalg.svdvals(orthogonalize(wide))
    assert ((found > 0.6) & (found < 1.3)).all()
    assert torch.equal(orthogonalize(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_a_matrix_of_low_rank_is_orthogonalised_as_exactly():
    matrix = random((40, 3)) @ random((3, 60), 1) + 1e-4 * random((40, 60), 2)
    torch.testing.assert_close(
        orthogonalize(matrix), newton_schulz(matrix.double()).float(), rtol=0, atol=1e-3
    )


def test_steps_are_those_of_torch():
    """Several steps at a falling rate: torch's differ by the rounding of bfloat16."""
    start = [random(shape, i) for i, shape in enumerate(SHAPES)]
    ours, theirs = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    optimizers = [
        Muon(ours, lr=0.02, weight_decay=0.3),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(4):
        for optimizer, parameters in zip(optimizers, (ours, theirs), strict=True):
            for i, parameter in enumerate(parameters):
                parameter.grad = random(parameter.shape, 10 * step + i)
            optimizer.param_groups[0]["lr"] = 0.02 / (step + 1)
            optimizer.step()
    for before, one, other in zip(start, ours, theirs, strict=True):
        moved = (other - before).abs().max()
        assert moved > 0.01
        assert (one - other).abs().max() < 0.03 * moved


def test_a_parameter_without_gradient_stays_and_a_vector_is_refused():
    parameter = torch.nn.Parameter(random((2, 3)))
    before = parameter.detach().clone()
    Muon([parameter], lr=1.0).step()
    assert torch.equal(parameter, before)
    with pytest.raises(ValueError, match=r"one parameter is \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
