"""Least squares with the keys of earlier edits, in the null space, and under equality, each in two forms."""

import pytest
import torch

from aftershock.editors import previous_keys
from aftershock.editors.previous_keys import PreviousKeys, SummedFactors
from aftershock.editors.solvers import Earlier, Factor, adjust, adjust_by_ridge, interpolate
from obvious import off
from test_solvers import normal, one_silent_neuron, rounded

D, N = 24, 3


def spd(seed, d=D):
    a = normal(seed, 2 * d, d)
    return a.T @ a / len(a)


@pytest.mark.parametrize("m", [0, 2, 40])
def test_previous_keys_are_a_part_of_the_matrix(m):
    C, K, P = spd(0), normal(1, 2, N, D), normal(2, 2, m, D)
    K[0, 2] = K[0, 0]  # the same key twice
    K[1, 2] = 0.0  # a case with fewer requests
    factor = Factor.of(C)
    found = adjust(factor, 0.7, K, Earlier.of(factor, P) if m else None)
    ridged = adjust_by_ridge(0.3, K, P)
    one = torch.eye(D, dtype=torch.float64)
    for i in range(2):
        known = P[i].T @ P[i] + K[i].T @ K[i]
        assert off(found[i], torch.linalg.solve(0.7 * C + known, K[i].T).T) < 1e-10
        assert off(ridged[i], torch.linalg.solve(0.3 * one + known, K[i].T).T) < 1e-10


def test_previous_keys_count_where_the_moments_know_nothing():
    text, key = one_silent_neuron(0)
    factor, P = Factor.of(rounded(text)), normal(3, 2, 48).abs()
    P[:, 7] = 0.0
    found = adjust(factor, 5.0, key[None], Earlier.of(factor, P[None]))[0]
    ridge = 1e-7 * torch.eye(48, dtype=torch.float64)
    wanted = torch.linalg.solve(5.0 * rounded(text) + ridge + P.T @ P + key.T @ key, key.T).T
    assert off(found, wanted) < 1e-4
    assert found[0].nonzero().numel() == 1


def test_latest_keys_stand_beside_the_matrix_of_those_before():
    kept, total, sizes = PreviousKeys(), torch.zeros(2 * D, 2 * D, dtype=torch.float64), []
    few = 2 * D // previous_keys.SHARE
    for number in range(20):
        keys = normal(number, 1, 2, 2 * D)
        keys[0, 1] = 0.0  # a row that only fills up
        kept, total = kept.add(keys), total + keys[0].T @ keys[0]
        sizes.append(sum(tensor.numel() for tensor in kept.entries(3).values()))
        assert off(kept.total(keys)[0], total) < 1e-12
        again = PreviousKeys.read(kept.entries(3), 3, torch.device("cpu"))
        assert torch.equal(again.total(keys), kept.total(keys))
    assert sizes[:few] == [2 * D * (i + 1) for i in range(few)]
    assert max(sizes) == sizes[-2] == 4 * D * D + 2 * D * few  # and no more, however many
    assert PreviousKeys.read(kept.entries(3), 2, torch.device("cpu")) == PreviousKeys()


def test_a_sum_is_factorised_once_as_long_as_it_is_the_same():
    A, S, asked = spd(0), torch.stack([spd(1), spd(2)]), []
    factors = SummedFactors(lambda layer: asked.append(layer) or A)
    for i, factor in enumerate(factors.of(3, S)):
        assert off(factor.matrix, A + S[i]) < 1e-15
    assert factors.of(3, S) is factors.of(3, S)
    assert asked == [3]
    assert off(factors.of(3, 2 * S)[0].matrix, A + 2 * S[0]) < 1e-15
    assert off(factors.of(3, S)[0].matrix, A + S[0]) < 1e-15


def test_the_null_space_form_of_alphaedit_is_the_released_one():
    C, K, S = spd(0), normal(1, N, D), normal(2, 50, D)
    S = S.T @ S
    R, l2 = normal(3, N, 5), 0.4
    vectors = torch.linalg.eigh(C)[1][:, :10]
    P, one = vectors @ vectors.T, torch.eye(D, dtype=torch.float64)
    for known in (S, torch.zeros_like(S)):
        wanted = torch.linalg.solve(P @ (K.T @ K + known) + l2 * one, P @ K.T @ R)  # (d_in, d_out)
        factor = Factor.of(l2 * one[:10, :10] + vectors.T @ known @ vectors)
        found = adjust(factor, 1.0, (K @ vectors)[None])[0] @ vectors.T
        assert off(found.T @ R, wanted) < 1e-9
    without = adjust_by_ridge(l2, (K @ vectors)[None])[0] @ vectors.T
    assert off(without.T @ R, wanted) < 1e-9


def test_equality_is_the_limit_of_little_weight():
    C, keys = spd(0), normal(1, 2, N, D)
    keys[1, 2] = 0.0
    found, rank = interpolate(Factor.of(C), keys)
    assert rank.tolist() == [3, 2]
    assert torch.allclose(keys[0] @ found[0].T, torch.eye(N, dtype=torch.float64), atol=1e-10)
    inverse = torch.linalg.inv(C)
    for i, n in ((0, 3), (1, 2)):
        k = keys[i, :n].T
        assert off(found[i, :n], (inverse @ k @ torch.linalg.inv(k.T @ inverse @ k)).T) < 1e-10
    assert found[1, 2].abs().max() == 0
    near = adjust(Factor.of(C), 1e-8, keys)
    assert off(near, found) < 1e-6
    keys[1, 2] = keys[1, 0] * 2 - keys[1, 1]
    assert interpolate(Factor.of(C), keys)[1].tolist() == [3, 2]


def test_equality_is_met_where_the_moments_know_nothing():
    text, key = one_silent_neuron(0)
    found, rank = interpolate(Factor.of(rounded(text)), key[None])
    assert rank.tolist() == [1]
    assert float(key[0] @ found[0, 0]) == pytest.approx(1)
    assert found[0, 0].nonzero()[:, 0].tolist() == [7]  # a change there costs nothing
