"""Muon against the formula written out, and against torch's own, which orthogonalises in bfloat16."""

import pytest
import torch

from aftershock.lm.pretraining.muon import Muon, orthogonalize

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
