"""Least squares with the keys of earlier edits, in the null space, and under equality, and its file."""

import pytest
import torch
from safetensors import safe_open

from aftershock.editors import previous_keys
from aftershock.editors.alphaedit import THRESHOLD_SHARE
from aftershock.editors.artifacts import ARTIFACTS, with_sources
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.previous_keys import PreviousKeys, SummedFactors
from aftershock.editors.solvers import Earlier, Factor, adjust, adjust_by_ridge, interpolate
from aftershock.lm.statistics.moments import load_moments, read_hashes, save_moments
from aftershock.lm.statistics.null_space import Spectrum, decompose, load_artifact, save_spectra
from editing import CONTEXTS, SETTINGS, close, make
from obvious import off
from test_multi_layer import several
from test_solvers import normal, one_silent_neuron, rounded
from tiny import moments, tiny

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


# --- the null space -----------------------------------------------------------------------------------------
def test_the_file_goes_back_and_forth_and_knows_its_model(tmp_path):
    lm = tiny()
    known, path, file = moments(lm), tmp_path / "moments.safetensors", tmp_path / "null_space.safetensors"
    save_moments(known, path, "model", "text")
    hashes = read_hashes(path)
    assert hashes == {"weights_sha256": "model", "text_sha256": "text"}
    save_spectra(decompose(load_moments(path, [0, 2], **hashes)), file, hashes)
    found = load_artifact(file, lm, [2], "model")
    assert list(found) == [2]
    assert sorted(load_artifact(file, lm, None, "model")) == [0, 2]
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == hashes
    C = known[2].matrix.double()
    again = (found[2].vectors.double() * found[2].values) @ found[2].vectors.double().T
    assert off(again, C) < 1e-5
    assert bool((found[2].values.diff() >= 0).all())
    with pytest.raises(ValueError, match=r"another model or text .* rule null_space makes it"):
        load_artifact(file, lm, None, "other")
    with pytest.raises(
        ValueError, match=r"no null space of layers \[1\]; delete it .* rule null_space makes it"
    ):
        load_artifact(file, lm, [1, 2], "model")


def test_an_empty_null_space_says_which_thresholds_leave_how_many_directions():
    spectrum = Spectrum.of(torch.diag(torch.tensor([4.0, 1.0, 3.0, 2.0, 8.0, 7.0, 6.0, 5.0])))
    assert spectrum.below(2.5).shape == (8, 2)
    with pytest.raises(ValueError, match=r"moments of layer 3 is below the threshold 0\.5") as error:
        spectrum.below(0.5, "of layer 3")
    wanted = "the smallest are 1, 2, 3; of 8 directions a threshold of 3 leaves 2, 5 leaves 4, 7 leaves 6"
    assert wanted in str(error.value)
    for value, count in ((3.0, 2), (5.0, 4), (7.0, 6)):  # what the error promises
        assert spectrum.below(value).shape == (8, count)


def test_a_change_lies_in_the_null_space():
    lm = tiny()
    editor = make("alphaedit", lm)
    result = editor.edit(several(3))
    for delta, layer in zip(result.delta, (0, 1), strict=True):
        basis, change = editor.basis(layer), delta.dense()[0]
        assert 0 < basis.shape[1] < len(basis)
        assert off(change @ basis @ basis.T, change) < 1e-6  # eigenvectors are kept in float32
        assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1], dtype=torch.float64), atol=1e-6)


def test_the_released_form_makes_the_same_edits_up_to_its_precision():
    lm = tiny()
    reduced, released = (make("alphaedit", lm, l2=1.0, variant=v) for v in ("paper", "released"))
    first, other = (editor.edit(several(3)) for editor in (reduced, released))
    assert close(first.delta, other.delta, 1e-4)
    second = reduced.edit(several(2, template=1), first.delta, first.memory)
    wanted = released.edit(several(2, template=1), first.delta, other.memory)
    assert close(second.delta, wanted.delta, 1e-4)
    sizes = [next(iter(result.memory.values())).shape[2] for result in (first, other)]
    assert sizes == [reduced.basis(0).shape[1], len(reduced.basis(0))]


def test_measured_threshold_and_ridge_follow_the_scale_of_keys():
    lm, known = tiny(), moments(tiny())
    editor = make("alphaedit", lm, l2="auto")
    for layer in (0, 1):
        matrix = known[layer].matrix.double()
        mean = float(matrix.diagonal().mean())
        assert editor.measured["threshold"][layer] == pytest.approx(THRESHOLD_SHARE * mean, rel=1e-5)
        keys = editor.probe_keys[layer] @ editor.basis(layer)
        assert editor.measured["l2"][layer] == pytest.approx(0.1 * float(keys.square().sum(dim=1).median()))
    assert make("alphaedit", lm, threshold=0.01, l2=3.0).measured == {}


def test_an_artifact_brings_what_it_is_made_from():
    assert with_sources(["null_space", "hypernetwork"]) == {"null_space", "moments", "hypernetwork"}
    assert with_sources([]) == set()
    assert ARTIFACTS["null_space"].source == "moments"
    lm = tiny()
    settings = settings_of("alphaedit", SETTINGS["alphaedit"])
    with pytest.raises(ValueError, match=r"no null space of layer 0; given: \[1\]"):
        method_of("alphaedit").load()(
            lm, settings, {"null_space": {1: Spectrum.of(spd(0, 64))}}, contexts=CONTEXTS
        ).edit(several(1))


def test_eigenvalues_count_by_size():
    matrix = normal(0, 12, 12)
    matrix = matrix + matrix.T
    spectrum = Spectrum.of(matrix)
    assert torch.allclose(spectrum.values, torch.linalg.svdvals(matrix).flip(0))
    turned = matrix @ spectrum.vectors
    assert off(turned, spectrum.vectors * (spectrum.vectors * turned).sum(dim=0)) < 1e-12
    assert torch.allclose(turned.norm(dim=0), spectrum.values)
    for n in (1, 7, 11):  # those of small singular values
        small = torch.linalg.svd(matrix)[0][:, -n:]
        basis = spectrum.below(float(spectrum.values[n - 1 : n + 1].mean()))
        assert torch.allclose(basis @ basis.T, small @ small.T, atol=1e-6)
