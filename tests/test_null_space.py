"""AlphaEdit's null space: which directions are in it, the file of it, and edits inside."""

import pytest
import torch
from safetensors import safe_open

from aftershock.editors.alphaedit import THRESHOLD_SHARE
from aftershock.editors.artifacts import ARTIFACTS, with_sources
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.statistics.moments import load_moments, read_hashes, save_moments
from aftershock.lm.statistics.null_space import Spectrum, decompose, load_artifact, save_spectra
from editing import CONTEXTS, SETTINGS, close, make
from obvious import off
from test_multi_layer import several
from test_previous_keys import spd
from test_solvers import normal
from tiny import moments, tiny


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
