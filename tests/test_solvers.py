"""Solutions with second moments that are not of full rank, against an LU of the whole matrix as released."""

import math

import pytest
import torch

from aftershock.editors import moment_weighted
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.solvers import Factor, adjust, direction, rounding
from aftershock.lm.edits import select, state_norm
from aftershock.lm.statistics.moments import Moment
from editing import CONTEXTS, SETTINGS, close, make, singles
from obvious import off
from tiny import moments, tiny

D, N, TOKENS = 48, 3, 2000
CLOSED_FORM = 1e-5
EPS = torch.finfo(torch.float32).eps


def normal(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rounded(keys):
    """The second moments of `keys` as they are kept: float32."""
    return (keys.T @ keys / len(keys)).float().double()


def gelu(x):
    return torch.nn.functional.gelu(x)


def few_texts(seed):
    return gelu(normal(seed, 20, D) * 2), gelu(normal(seed + 1, N, D) * 2)


def embeddings(seed):
    """Inputs that depend on the token alone, and the keys of tokens that the text has, float32."""
    known = gelu(normal(seed, 30, D) * 2)
    text = known[torch.randint(0, 30, (TOKENS,), generator=torch.Generator().manual_seed(seed))]
    return text, known[:N] * (1 + EPS * normal(seed + 1, N, D))


def other_embeddings(seed):
    text, _ = embeddings(seed)
    return text, gelu(normal(seed + 2, N, D) * 2)


def full(seed):
    return gelu(normal(seed, TOKENS, D) @ normal(seed + 1, D, D)), gelu(normal(seed + 2, N, D) * 3)


def one_silent_neuron(seed):
    """A neuron that never fired in the text, and one key in which it does."""
    text, key = normal(seed, TOKENS, D).relu(), normal(seed + 1, 1, D).abs()
    text[:, 7] = 0.0
    return text, key


def small_neurons(seed):
    size = torch.ones(D, dtype=torch.float64)
    size[::5] = 1e-10
    return normal(seed, TOKENS, D).relu() * size, normal(seed + 1, N, D).relu() * size


def released(moment, weight, keys, order=None):
    """(weight C + K K^T)^-1 K by an LU, of the whole matrix with rows and columns in another `order`."""
    order = torch.arange(len(moment)) if order is None else order
    matrix = weight * moment + keys.T @ keys
    found = torch.empty_like(keys.T)
    found[order] = torch.linalg.solve(matrix[order][:, order], keys.T[order])
    return found.T


# --- MEMIT --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weight", [5.0, 15000.0])
@pytest.mark.parametrize("seed", [0, 100, 200])
@pytest.mark.parametrize(
    ("make_keys", "method", "rank"),
    [
        (full, "cholesky", D),
        (few_texts, "eigenvectors", 20),
        (embeddings, "eigenvectors", 30),
        (other_embeddings, "eigenvectors", 30),
        (one_silent_neuron, "eigenvectors", D - 1),
        (small_neurons, "cholesky", D),
    ],
)
def test_a_solution_is_that_of_the_released_lu(make_keys, method, rank, seed, weight):
    text, keys = make_keys(seed)
    moment = rounded(text)
    factor = Factor.of(moment)
    assert (factor.method, factor.rank) == (method, rank)
    batch = torch.stack([keys, keys.flip(0) * 0.5, torch.zeros_like(keys)])
    found = adjust(factor, weight, batch)
    assert found[2].abs().max() == 0.0  # a case that failed
    for i in range(2):
        wanted = released(moment, weight, batch[i])
        orders = [torch.randperm(D, generator=torch.Generator().manual_seed(s)) for s in range(3)]
        between = max(off(released(moment, weight, batch[i], order), wanted) for order in orders)
        assert off(found[i], wanted) < max(CLOSED_FORM, 10 * between)
        assert between < 1e-3  # the LU is well enough determined to compare with


def test_silent_neurons_are_left_out_unless_a_key_has_them():
    text, keys = normal(0, TOKENS, D).relu(), normal(1, N, D).relu()
    dead = [0, 7, 21, 40]
    live = [i for i in range(D) if i not in dead]
    text[:, dead] = 0.0
    moment = rounded(text)
    factor = Factor.of(moment)
    assert (factor.method, factor.rank) == ("eigenvectors", D - len(dead))

    silent = keys.clone()
    silent[:, dead] = 0.0
    found = adjust(factor, 500.0, silent[None])[0]
    assert off(found[:, live], released(moment[live][:, live], 500.0, silent[:, live])) < 1e-12
    assert found[:, dead].abs().max() == 0.0

    # with some keys in which they fire: the limit of a ridge that vanishes
    some = keys.clone()
    some[0, dead] = 0.0
    for firing in (keys, some):
        found = adjust(factor, 500.0, torch.stack([firing, silent]))
        ridges = [
            torch.linalg.solve(500 * moment + ridge * torch.eye(D) + firing.T @ firing, firing.T).T
            for ridge in (1e-6, 1e-7)
        ]
        assert off(found[0], ridges[1]) < 1e-4
        assert off(found[0], ridges[1]) < 0.2 * off(found[0], ridges[0])  # ever nearer
        assert off(found[1], adjust(factor, 500.0, silent[None])[0]) < 1e-12  # whoever stands beside it


def test_twin_neurons_share_their_part():
    text, keys = normal(0, TOKENS, D), normal(1, N, D)
    text[:, 1], keys[:, 1] = text[:, 0], keys[:, 0]
    moment = rounded(text)
    found = adjust(Factor.of(moment), 5.0, keys[None])[0]
    assert Factor.of(moment).rank == D - 1
    assert torch.allclose(found[:, 0], found[:, 1], rtol=1e-6)
    # as one neuron of both: the sum over twins stands for it
    one = released(moment[1:, 1:], 5.0, keys[:, 1:])
    assert off(found[:, 0] + found[:, 1], one[:, 0]) < 1e-6
    assert off(found[:, 2:], one[:, 1:]) < 1e-6


def test_moments_of_nothing_fit_the_keys():
    keys = normal(0, N, D)
    found = adjust(Factor.of(torch.zeros(D, D)), 5.0, keys[None])[0]
    assert torch.allclose(found, torch.linalg.pinv(keys).T, atol=1e-10)
    with pytest.raises(ValueError, match="layer 3 hold values that are not finite"):
        Factor.of(torch.full((D, D), math.nan), "layer 3")


def test_rounding_tells_which_answers_are_those_of_the_last_bits():
    for make_keys, low, high in (
        (full, 1e-9, 1e-5),
        (embeddings, 1e-2, 10.0),
        (other_embeddings, 1e-9, 1e-3),
    ):
        text, keys = make_keys(0)
        factor = Factor.of(rounded(text))
        solved = adjust(factor, 5.0, keys[None])
        told = float(rounding(factor, 5.0, keys[None], solved, torch.float32)[0])
        moved = keys * (1 + EPS * torch.sign(normal(9, N, D)))
        seen = off(adjust(factor, 5.0, moved[None])[0], solved[0])
        assert low < told < high
        assert 0.05 < told / seen < 20


# --- ROME and AlphaEdit -------------------------------------------------------------------------------------
@pytest.mark.parametrize("make_keys", [full, few_texts, other_embeddings, small_neurons])
def test_a_direction_is_that_of_the_inverse(make_keys):
    text, keys = make_keys(0)
    moment = rounded(text)
    wanted = torch.linalg.solve(moment, keys.T).T
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    found = direction(Factor.of(moment), keys)
    assert off(found, wanted) < CLOSED_FORM


def test_a_direction_is_free_where_a_silent_neuron_fires():
    text, key = one_silent_neuron(0)
    axis = torch.zeros(1, D, dtype=torch.float64)
    axis[0, 7] = 1.0
    factor = Factor.of(rounded(text))
    assert torch.allclose(direction(factor, key), axis)
    key[0, 7] = 0.0
    found = direction(factor, key)
    live = [i for i in range(D) if i != 7]
    wanted = torch.linalg.solve(rounded(text)[live][:, live], key[0, live])
    assert torch.allclose(found[0, live], wanted / wanted.norm())
    assert found[0, 7] == 0


# --- editors ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["rome", "memit"])
def test_an_editor_goes_on_and_says_how(method):
    lm = tiny()
    settings = settings_of(method, SETTINGS[method], {"layers": [0]})
    kind = method_of(method).load()
    with pytest.raises(ValueError, match=r"no second moments of layer 0; given: \[1\]"):
        kind(lm, settings, {"moments": {1: moments(lm)[1]}}, contexts=CONTEXTS).edit(singles(1))
    k = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    result = kind(lm, settings, {"moments": {0: Moment(k.T @ k / 10, 10)}}, contexts=CONTEXTS).edit(
        singles(2)
    )
    assert result.reasons == (None, None)
    assert bool((state_norm(result.delta) > 0).all())
    found = result.diagnostics[-1]
    assert (found["rank"], found["method"]) == (10, "eigenvectors")
    assert found["condition"] > 1e6
    sound = make(method, lm, layers=[0]).edit(singles(2)).diagnostics[-1]
    assert (sound["rank"], sound["method"]) == (64, "cholesky")
    if method == "memit":
        assert sound["rounding"].shape == (2,)
        assert sound["rounding"].max() < 1e-10  # of a float64 model


def test_a_solution_that_is_no_number_fails_its_case_alone(monkeypatch):
    def broken(factor, weight, keys, earlier=None):
        found = adjust(factor, weight, keys, earlier)
        found[1, 0, 3] = math.inf
        return found

    lm = tiny()
    for multi_label in ("joint", "sequential"):
        editor = make("memit", lm, multi_label=multi_label)
        sound = editor.edit(singles(3))
        with monkeypatch.context() as patch:
            patch.setattr(moment_weighted, "adjust", broken)
            result = editor.edit(singles(3))
        assert [reason is None for reason in result.reasons] == [True, False, True]
        assert result.reasons[1].startswith(f"the update of {lm.projection(0)} is not finite")
        assert state_norm(result.delta)[1] == 0
        assert close(select(result.delta, [0, 2]), select(sound.delta, [0, 2]))
