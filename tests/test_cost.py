"""Estimated costs of jobs, against what is counted while real ones run on random models."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aftershock.budget.asking import BLOCK, PROBES, Probes
from aftershock.budget.cost import Costs
from aftershock.budget.devices import find_device, shipped
from aftershock.budget.editing import Editing
from aftershock.budget.edits import KINDS
from aftershock.budget.gradients import hypernetwork
from aftershock.budget.work import UNKNOWN, Room, Sizes, Work, run
from aftershock.datasets.table import CONFLICT_STATES
from aftershock.editors.mend import MendTraining
from aftershock.editors.methods import find_methods, method_of, settings_of
from aftershock.lm.statistics.moments import second_moments
from benchmarks import models
from benchmarks.calibrate import fit, room_of, sizes_of, texts_of, work_of
from benchmarks.measure import Clock
from benchmarks.tasks import EDITS, no_early_stop, observed, task
from configured import study
from editing import SETTINGS, built
from tiers import some

SIZE = models.SIZES["tiny"]
CONFIG, MODELS = study()
MODEL = MODELS["demo-4x128"]
ESTIMATED = sorted(name for name, found in find_methods().items() if found.method.cost)
"""Methods that name an estimate of their own; others are taken for passes over their requests."""


@pytest.fixture(scope="module")
def lm():
    return models.build(SIZE)


def counted(work):
    with FlopCounterMode(display=False) as counter, no_early_stop():
        work()
    return counter.get_total_flops()


def editor_of(lm, method):
    """The method at the benchmark's layers, with few steps and contexts of the published lengths.

    One that is not measured there has the settings that the contract's tests have.
    """
    like = {"r_rome": "rome"}.get(method, method)
    if like not in EDITS:
        return generic(lm, method)
    done = task(lm, SIZE, like, 6, 4)
    if method != like:
        settings = settings_of(method, {"layers": done.settings.layers, "steps": 4})
        contexts = models.contexts(like)
        done.editor = method_of(method).load()(lm, settings, done.editor.artifacts, contexts=contexts)
        done.settings = settings
    return done


def generic(lm, method):
    """A method that the benchmark does not measure, as the contract's tests set it, with no early end."""
    known = {field.name for field in fields(method_of(method).settings)}
    given = {name: value for name, value in {"steps": 4, "early_stop": 0.0}.items() if name in known}
    settings = settings_of(method, SETTINGS[method], given)
    # texts of the published lengths stand before prompts, none where settings ask for none
    contexts = models.contexts("memit") if getattr(settings, "context_lengths", ()) else [["{}"]]
    editor = built(method, lm, settings, contexts)
    return SimpleNamespace(settings=settings, editor=editor, requests=models.DRAWN.requests(6))


ALONE = [(method, 1, 1.25) for method in ESTIMATED]
OF_EACH_KIND = {method_of(case[0]).method.cost: case for case in ALONE}
"""One method of each kind of cost."""


@pytest.mark.parametrize(
    ("method", "cases", "factor"),
    [
        *some(ALONE, OF_EACH_KIND.values()),
        *some(((method, 6, 1.5) for method in ESTIMATED), [("alphaedit", 6, 1.5), ("ft", 6, 1.5)]),
    ],
)
def test_products_of_an_edit_are_those_that_are_counted(lm, method, cases, factor):
    done = editor_of(lm, method)
    requests = done.requests[:cases]
    done.editor.edit([[requests[0]]])  # what the model makes of contexts is kept
    found = counted(lambda: done.editor.edit([[request] for request in requests]))
    asked = Editing(
        sizes_of(lm),
        room_of(lm),
        done.settings,
        MendTraining(),
        cases,
        texts=texts_of(lm, requests),
        steps_made=1.0,
    )
    reckoned = KINDS[method_of(method).method.cost].work(asked).flops
    assert found / factor < reckoned < found * factor


@pytest.mark.parametrize("how", ["joint", "mean", "mixture", "sequential"])
def test_several_labels_cost_what_is_counted(lm, how):
    done = task(lm, SIZE, "memit", 1, 4)
    settings = replace(done.settings, multi_label=how)
    editor = method_of("memit").load()(lm, settings, done.editor.artifacts, contexts=models.contexts("memit"))
    (request,) = done.requests[:1]
    labels = [replace(request, target_new=label) for label in models.targets(3, 0)]
    found = counted(lambda: editor.edit([labels]))
    texts = texts_of(lm, labels)
    asked = Editing(sizes_of(lm), room_of(lm), settings, MendTraining(), 1, requests=3, texts=texts)
    assert found / 1.5 < KINDS["multi-layer"].work(asked).flops < found * 1.5


@pytest.mark.parametrize("method", ["score-1", "score-5"])
def test_products_of_scorings_are_those_that_are_counted(lm, method):
    done = task(lm, SIZE, method, 6, None)
    found = counted(lambda: done.by_engine(range(6), Clock("cpu"), ask=False))
    assert found / 1.5 < work_of(lm, done, method, 6).flops < found * 1.5


def test_products_of_second_moments_are_those_that_are_counted(lm):
    words = models.vocabulary()
    documents = [" ".join(words[(i + j) % len(words)] for j in range(60)) for i in range(8)]
    made = {}
    found = counted(lambda: made.update(second_moments(lm, documents, [0, 1])))
    costs = Costs(
        CONFIG, MODEL | {"moments": {"documents": 8, "vectors_per_dimension": None}}, shipped()["cpu"]
    )
    reckoned = costs.moments([0, 1]).work.flops * made[0].count / (8 * 600)
    assert found / 1.5 < reckoned < found * 1.5


def test_a_pass_through_the_hypernetwork_is_what_is_counted(lm):
    layers = (2, 3)
    net = observed(lm, layers)
    x, y = (torch.randn(5, width) for width in net.shapes[next(iter(net.shapes))])
    name = next(iter(net.shapes))
    with torch.no_grad():
        found = counted(lambda: net.network(name)(x, y, 0))
    assert hypernetwork(sizes_of(lm), MendTraining(), 1, 5, 1).flops == 2 * found  # two matrices of one layer


def test_a_pass_by_hand():
    sizes = Sizes(layers=3, width=4, inner=16, vocabulary=50, key_value=4)
    assert sizes.layer == 4 * 16 + 2 * 64
    assert sizes.parameters == 3 * 192 + 200
    forth = run(sizes, 1, tokens=10, layers=3, keys=5, read=2)
    assert forth.flops == 2 * 10 * 3 * 192 + 10 * 3 * 4 * 5 * 4 + 2 * 2 * 50 * 4
    assert forth.passes == 3
    narrow = run(sizes, 1, tokens=10, layers=3, keys=5, read=2, narrow=True)
    assert forth.flops - narrow.flops == 2 * 8 * 128  # eight tokens are spared the last MLP
    gated = replace(sizes, gated=True, key_value=2)
    assert gated.layer == 2 * 4 * 6 + 3 * 64


def test_sizes_of_models_are_those_of_their_weights(lm):
    shape = {
        "width": 1600,
        "inner": 6400,
        "vocabulary": 50257,
        "key_value": None,
        "gated": False,
        "tied": True,
    }
    assert Sizes.of({"n_layers": 48, "shape": shape}).parameters == pytest.approx(1_557_611_200, rel=0.005)
    assert Sizes.of({"n_layers": 48}) == UNKNOWN
    weights = sum(p.numel() for p in lm.model.parameters() if p.ndim == 2)
    assert Sizes.of({"architecture": SIZE.config}).parameters == weights - 128 * 128  # but for positions


def test_batches_follow_the_budget():
    sizes = Sizes(12, 768, 3072, 50257, 768)
    assert Room.of(16e9, False, sizes) == Room(1 << 30, False)
    gpu = Room.of(16e9, True, sizes)
    assert gpu.budget == pytest.approx(0.6 * (16e9 - sizes.weight_bytes))
    assert gpu.batches(gpu.budget * 3, 1.0, 1.0, 1) == pytest.approx(3)
    assert gpu.batches(10.0, 1e12, 1.0, 1) == 1.0  # one that is larger than all of it goes alone
    assert Room(100.0, False).batches(60.0, 1.0, 1.0, 20) == 3.0


def test_rates_are_found_again():
    device = find_device("cpu")
    given = [
        Work(flops=1e9 * i**2, bytes=1e8 * (7 - i), passes=10.0 * (i % 3), rows=5.0 * (i % 2))
        for i in range(1, 7)
    ]
    found = fit([(work, device.seconds(work)) for work in given])
    wanted = device.rates["strict"], device.bandwidth, device.pass_seconds, device.row_seconds
    assert found == pytest.approx(wanted, rel=1e-6)


# --- whole jobs --------------------------------------------------------------------------------------------
def costs(device="cpu", model=MODEL, **changes):
    return Costs(CONFIG | changes, model, find_device(device))


def test_an_edit_job_is_its_blocks_and_costs_more_with_more_labels():
    editor = CONFIG["editors"]["memit"]
    one, three = (costs().edit(editor, "round_easy", n * BLOCK).work for n in (1, 3))
    assert three.rows == 3 * one.rows
    assert three.flops == pytest.approx(3 * one.flops)
    several = costs().edit(editor | {"second_edit": "multi_label"}, "round_easy", BLOCK).work
    assert 1.5 * one.flops < several.flops < 2.5 * one.flops  # four edits in place of two, and the scoring


def test_facts_before_prompts_cost_what_their_tokens_do():
    editor, kind = {"method": "in_context", "settings": {}}, KINDS["text"]
    plain = costs().scored(PROBES["coverage"], BLOCK, 4, 0)
    longer = costs().scored(PROBES["coverage"], BLOCK, 4, 0, 12.5)
    tokens = {before: 9 + before + 1.5 * (3 * 11 + 14) / (11 + 9) for before in (0, 12.5)}
    assert longer.flops / plain.flops == pytest.approx(tokens[12.5] / tokens[0], rel=0.25)
    one = Editing(Sizes(4, 128, 512, 1500, 128), Room(1e9, False), settings_of("in_context"), None, 1.0)
    assert kind.before(one) == 9 + 2.5 + 1
    more = [settings_of("in_context", {"examples": 3}), settings_of("retrieval", {"nearest": 2})]
    assert [kind.before(replace(one, settings=s, requests=5.0)) for s in more] == [11 * 12.5, 2 * 12.5]
    edited = [costs().edit(editor | {"settings": {"examples": n}}, "coverage", BLOCK) for n in (0, 4)]
    assert edited[0].work.flops < edited[1].work.flops
    assert KINDS["dense"].before(one) == 0


def test_more_states_and_continuations_cost_more():
    asked = costs().scored(PROBES["composite"], BLOCK, len(CONFLICT_STATES), 0)
    twice = costs().scored(PROBES["composite"], BLOCK, 2 * len(CONFLICT_STATES), 0)
    assert twice.flops == pytest.approx(2 * asked.flops)
    shared = costs().scored(PROBES["composite"], BLOCK, len(CONFLICT_STATES), 2)
    assert shared.flops < 0.75 * asked.flops  # two of four layers are run once for all states
    silent = costs(continuations={"tokens": 0, "roles": []}).edit(CONFIG["editors"]["ft"], "coverage", BLOCK)
    assert silent.work.passes < costs().edit(CONFIG["editors"]["ft"], "coverage", BLOCK).work.passes
    assert asked.rows == BLOCK * 4 * PROBES["composite"].pairs
    assert isinstance(PROBES["coverage"], Probes)


def test_memory_holds_weights_moments_and_one_case():
    large = study("pitfalls")[1]["gpt-j-6b"]
    need = costs("h100-80gb", large).edit(CONFIG["editors"]["memit"], "coverage", BLOCK)
    weights, factors = 4 * 6.05e9, 6 * 16384**2 * 8
    assert weights + factors < need.gpu < 1.2 * (weights + factors) + 3e9
    assert need.read == pytest.approx(weights + 6 * 16384**2 * 4, rel=0.01)
    plain = costs("h100-80gb", large).edit(CONFIG["editors"]["ft"], "coverage", BLOCK)
    assert weights + 4 * 4096 * 16384 * 4 < plain.gpu < need.gpu
