"""GRACE's codebook: what an edit does to its entries, how far keys are apart, and what it counts as."""

import math

import pytest
import torch

from aftershock.editors.grace.entries import IGNORED, Entry, entries_of, take_up
from aftershock.editors.methods import settings_of
from aftershock.lm.edits import state_norm
from aftershock.lm.edits.codebook import distances_to
from aftershock.lm.edits.fold import fold
from aftershock.lm.edits.state import acting
from editing import singles
from test_grace import make
from tiny import requests, tiny


def entry(place, epsilon, *label):
    return Entry(torch.tensor([place, 0.0]), torch.zeros(1), torch.zeros(1), epsilon, label)


def take(entries, place, label, **changes):
    """The trained values, and the places and radii afterwards."""
    settings = settings_of("grace", {"eps": 1.0}, changes)
    key = torch.tensor([place, 0.0])
    chosen = take_up(entries, key, torch.zeros(1), tuple(label), lambda: torch.ones(1), settings)
    return chosen, [(round(e.key[0].item(), 5), pytest.approx(e.epsilon, abs=1e-6)) for e in entries]


def test_keys_are_added_widened_and_split():
    near, far = [IGNORED, 5, 6], [IGNORED, 7]
    assert take([], 0.0, near) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *near)], 2.5, far) == (1, [(0.0, 1.0), (2.5, 1.0)])  # too far to meet
    assert take([entry(0.0, 1.0, *near)], 1.5, near) == (0, [(0.0, 1.5)])
    assert take([entry(0.0, 1.0, *near)], 0.5, near) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *near)], 1.5, far) == (1, [(0.0, 0.75), (1.5, 0.75)])
    moved = take([entry(0.0, 1.0, *near)], 1.5, near, expand="moving_average")
    assert moved == (0, [(0.75, 1.5)])
    split = take([entry(0.0, 1.0, *near)], 1.5, far, variant="released")
    assert split == (1, [(0.0, 0.75 - 1e-5), (1.5, 0.75)])


def test_objects_are_compared_and_not_the_means_of_their_labels():
    here = [IGNORED, 5, 7]
    assert take([entry(0.0, 1.0, *here)], 0.5, [IGNORED, 6, 6]) == (1, [(0.0, 0.25), (0.5, 0.25)])
    assert take([entry(0.0, 1.0, *here)], 0.5, [IGNORED, 6, 6], variant="released") == (0, [(0.0, 1.0)])
    longer = [IGNORED, IGNORED, 5, 7]  # the same object after a longer prompt
    assert take([entry(0.0, 1.0, *here)], 0.5, longer) == (0, [(0.0, 1.0)])
    assert take([entry(0.0, 1.0, *here)], 0.5, longer, variant="released")[0] == 1


def test_the_release_looks_at_the_label_of_another_key():
    one, two = [IGNORED, 5], [IGNORED, 6]
    entries = [entry(0.0, 1.0, *one), entry(9.0, 1.0, *two)]
    assert take(list(entries), 0.5, two) == (2, [(0.0, 0.25), (9.0, 1.0), (0.5, 0.25)])
    assert take(list(entries), 0.5, two, variant="released") == (0, [(0.0, 1.0), (9.0, 1.0)])


def test_distances():
    g = torch.Generator().manual_seed(0)
    keys, queries = torch.randn(4, 6, generator=g), torch.randn(3, 6, generator=g)
    queries[0] = keys[2] * (1 + 1e-7)
    found = distances_to(keys, queries, "euclidean")
    assert torch.allclose(found, torch.cdist(queries, keys), atol=1e-5)
    assert found[0, 2] == 0
    angles = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(keys, dim=1).T
    assert torch.allclose(distances_to(keys, queries, "cosine"), 1 - angles, atol=2e-5)


def test_cold_values_depend_on_the_seed_and_the_fact_alone():
    lm = tiny()
    cases = singles(3)
    starts = make(lm, seed=1, steps=1, lr=1e-9).edit(cases).delta[0].values[:, 0]
    assert ((starts > -1e-6) & (starts < 1 + 1e-6)).all()
    assert not torch.allclose(starts[0], starts[1])
    turned = make(lm, seed=1, steps=1, lr=1e-9).edit(cases[::-1]).delta[0].values[:, 0]
    assert torch.allclose(turned.flip(0), starts, atol=1e-8)
    other = make(lm, seed=2, steps=1, lr=1e-9).edit(cases).delta[0].values[:, 0]
    assert not torch.allclose(other, starts)
    released = make(lm, seed=7, steps=1, lr=1e-9, variant="released").edit(cases[:1]).delta[0]
    drawn = torch.rand(1, released.values.shape[2], generator=torch.Generator().manual_seed(7))
    assert torch.allclose(released.values[0, 0], drawn[0].double(), atol=1e-7)


def test_a_norm_is_that_of_what_replacing_does():
    editor = make(tiny(), eps=1e-3)
    first = editor.edit([requests(2), requests(1, template=2)])
    state = first.delta + editor.edit([requests(1, template=1)] * 2, first.delta).delta
    (book,) = acting(state)
    for case in range(2):
        change = [e.value - e.output for e in entries_of(book, case)]
        wanted = math.sqrt(sum(v.square().sum().item() for v in change))
        assert state_norm(state)[case].item() == pytest.approx(wanted)


def test_no_weights_hold_a_codebook():
    lm = tiny()
    said = r"Codebook of transformer.h.1.mlp.c_fc is not a change of weights"
    with pytest.raises(ValueError, match=said), fold(lm, make(lm).edit(singles(1)).delta, 0):
        pass
