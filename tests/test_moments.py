"""Second moments against a slow, obvious version, and settings that are `auto`: measured on the model."""

import copy
import json
import math

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from aftershock.config.settings import merged_settings
from aftershock.editors.ft import BOX_SHARE, FtSettings
from aftershock.editors.memit import MemitSettings
from aftershock.editors.multi_layer_settings import PROBE_SHARE
from aftershock.experiments.tuning import tune
from aftershock.lm.hooks import record_activations
from aftershock.lm.statistics import moments as module
from aftershock.lm.statistics.moments import (
    Moment,
    Sums,
    add_up,
    describe,
    load_moments,
    load_sums,
    save_moments,
    save_sums,
    second_moments,
)
from aftershock.lm.statistics.probe_keys import PROMPT, SUBJECTS
from aftershock.page import layouts
from aftershock.page.moments import remarks
from aftershock.prompts import fill
from aftershock.tables.models import MOMENTS
from aftershock.tables.runs import TRIALS
from aftershock.verdicts import unwritten
from aftershock.words import percent
from editing import SETTINGS, close, make, singles
from test_protocol import TEMPLATE_ROWS, known_cases
from tiers import of_families
from tiny import CONTEXT, FAMILIES, TEXTS, moments, tiny

MIXED = [*TEXTS[:40], "", " ", "Oslo " * 60]


def keys(lm, texts, layer, part="mlp"):
    """Every key of a layer, one text at a time, (tokens, d_in) float64."""
    found, name = [], {"mlp": lm.projection, "attention": lm.attention_projection}[part](layer)
    for ids in lm.encode([text for text in texts if text.strip()]):
        ids = ids[: lm.context]
        with torch.no_grad(), record_activations(lm, inputs=[name]) as seen:
            lm.run(torch.tensor([ids]), torch.ones(1, len(ids)))
        found.append(seen["in", name][0])
    return torch.cat(found).double()


@pytest.mark.parametrize("part", ["mlp", "attention"])
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_second_moments_are_means_over_tokens(family, part):
    lm = tiny(family, torch.float32)
    found = second_moments(lm, MIXED, [1, 0], part)
    for layer in (0, 1):
        k = keys(lm, MIXED, layer, part)
        assert found[layer].count == len(k)
        assert torch.allclose(found[layer].matrix.double(), k.T @ k / len(k), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="every document is empty"):
        second_moments(lm, ["", ""], [0])


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_float32_products_are_as_good_as_a_float64_pass(family, monkeypatch):
    lm, exact = tiny(family, torch.float32), tiny(family)
    exact.model.load_state_dict(lm.model.state_dict())
    monkeypatch.setattr(module, "BATCH_TOKENS", 300)
    sums = add_up(lm, MIXED * 10, range(lm.n_layers))
    for layer, total in sums.matrices.items():
        k = keys(exact, MIXED, layer)
        wanted = 10 * k.T @ k
        assert total.dtype == torch.float64
        assert (total - wanted).norm() / wanted.norm() < 1e-6


def test_a_pass_ends_with_the_document_that_makes_it_enough():
    lm = tiny()  # the widest matrix has 64 inputs
    sums = add_up(lm, TEXTS, [0, 1], vectors_per_dimension=10)
    lengths = [len(ids) for ids in lm.encode(TEXTS)]
    assert 640 <= sums.tokens < 640 + CONTEXT
    assert sums.tokens == sum(lengths[: sums.place])
    assert sums.tokens - lengths[sums.place - 1] < 640
    assert sums.documents == sums.place
    assert add_up(lm, TEXTS[:5], [0], vectors_per_dimension=10).tokens == sum(lengths[:5])
    alone = second_moments(lm, TEXTS[: sums.place], [1])[1]
    assert torch.allclose(sums.moments()[1].matrix, alone.matrix, rtol=1e-6)
    assert add_up(lm, MIXED, [0]).documents == len(MIXED) - 2


class Killed(Exception):
    """An exception that ends a pass here."""


@pytest.mark.parametrize("wanted", [None, 40])
def test_an_interrupted_pass_goes_on_to_the_same_bits(tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(module, "BLOCK_TOKENS", 200)
    monkeypatch.setattr(module, "ENCODED_DOCUMENTS", 7)
    lm, path, key = tiny(dtype=torch.float32), tmp_path / "sums.safetensors", {"weights_sha256": "a"}
    texts = [*MIXED, *TEXTS]
    whole = add_up(lm, texts, [0, 2], wanted)
    stops = iter([False, False, True, False, True] + [False] * 1000)

    def keep(sums):
        save_sums(sums, path, key)
        if next(stops):
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            add_up(lm, texts, [0, 2], wanted, load_sums(path, key), keep, 0.0)
        assert 0 < load_sums(path, key).place < whole.place
    again = add_up(lm, texts, [0, 2], wanted, load_sums(path, key), keep, 0.0)
    assert (again.tokens, again.documents, again.place) == (whole.tokens, whole.documents, whole.place)
    assert list(again.matrices) == [0, 2]
    assert all(torch.equal(again.matrices[layer], whole.matrices[layer]) for layer in (0, 2))
    done = add_up(lm, texts, [0, 2], wanted, load_sums(path, key))
    assert torch.equal(done.matrices[2], whole.matrices[2])
    assert load_sums(path, {"weights_sha256": "b"}) is None
    assert load_sums(tmp_path / "none", key) is None


def test_sums_are_kept_as_often_as_asked():
    kept = []
    add_up(tiny(), TEXTS * 40, [0], keep=kept.append, keep_seconds=1e9)
    assert kept == []


def test_the_condition_of_each_layer_is_told(tmp_path):
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(0)))
    totals = {
        2: 8.0 * turn @ torch.diag(torch.tensor([4.0, 2.0, 0.5]).double()) @ turn.T,
        5: torch.diag(torch.tensor([8.0, 0.0, 0.0]).double()),
    }
    table = describe(Sums(totals, tokens=8, documents=3, place=4))
    MOMENTS.check(table)
    assert table["condition"].tolist() == [pytest.approx(8.0, rel=1e-5), math.inf]
    assert table["smallest"].tolist() == [pytest.approx(0.5, rel=1e-5), pytest.approx(0.0, abs=1e-9)]
    assert table[["tokens", "documents", "width"]].drop_duplicates().to_numpy().tolist() == [[8, 3, 3]]
    said = remarks(table)
    assert len(said) == 1
    assert table["rank"].tolist() == [3, 1]
    assert said[0].startswith("layer 5: the second moments are of rank 1 in 3 dimensions")
    few = remarks(pd.DataFrame([(1, 10, 19, 3, 0.1, 1.0, 10.0, 10)], columns=list(MOMENTS.columns)))
    assert few[0].startswith("layer 1: 19 tokens are few for 10 dimensions; take at least 20")
    moments = Sums(totals, tokens=8).moments()
    save_moments(moments, tmp_path / "m.safetensors", "model", "text", table)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        notes = file.metadata()
    assert float(notes["condition.2"]) == table["condition"][0]
    assert (notes["condition.5"], notes["weights_sha256"]) == ("inf", "model")


def test_a_rank_counts_what_a_text_has_told_and_not_how_large_a_neuron_is():
    torch.manual_seed(0)
    k = torch.randn(500, 8, dtype=torch.float64)
    few = k[torch.randint(0, 5, (500,))]  # five different tokens
    small = k * torch.tensor([1.0, 1e-9, 1.0, 1.0, 1.0, 1.0, 1e-6, 1.0])
    silent = k * torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    totals = {layer: keys.T @ keys for layer, keys in enumerate((k, few, small, silent))}
    assert describe(Sums(totals, tokens=500))["rank"].tolist() == [8, 5, 8, 6]


def test_moments_of_another_model_are_refused(tmp_path):
    path = tmp_path / "moments.safetensors"
    saved = {0: Moment(torch.eye(3), 7), 1: Moment(2 * torch.eye(3), 7)}
    save_moments(saved, path, "model a", "text a")
    found = load_moments(path, [1], "model a", "text a")
    assert (list(found), found[1].count) == ([1], 7)
    assert torch.equal(found[1].matrix, saved[1].matrix)
    assert list(load_moments(path, None, "model a")) == [0, 1]
    with pytest.raises(
        ValueError, match=r"weights_sha256 model a, not model b.*delete.*rule moments makes it"
    ):
        load_moments(path, [0], "model b")
    with pytest.raises(ValueError, match="text_sha256 text a, not text b"):
        load_moments(path, [0], "model a", "text b")
    with pytest.raises(ValueError, match=r"no moments of layers \[2\]"):
        load_moments(path, [0, 2], "model a")


# --- settings that are measured -----------------------------------------------------------------------------
PLAIN = [["{}"], ["It rains. {}"]]


def test_lambda_is_a_share_of_the_probe_keys_scale_in_each_layer():
    lm = tiny()
    editor = make("memit", lm, PLAIN, mom2_weight="auto")
    for layer, weight in editor.measured["mom2_weight"].items():
        inverse, scales = torch.linalg.inv(moments(lm)[layer].matrix.double()), []
        for subject in SUBJECTS:
            texts = [fill(kind[0], fill(PROMPT, subject)) for kind in PLAIN]  # the subject ends them
            k = torch.stack([keys(lm, [text], layer)[-1] for text in texts]).mean(dim=0)
            scales.append(float(k @ inverse @ k))
        assert weight == pytest.approx(PROBE_SHARE * torch.tensor(scales).median().item(), rel=1e-4)
    assert list(editor.measured["mom2_weight"]) == [0, 1]


def test_an_edit_with_a_measured_lambda_is_that_of_the_number():
    lm = tiny()
    auto = make("memit", lm, layers=[1], mom2_weight="auto")
    (weight,) = auto.measured["mom2_weight"].values()
    found = auto.edit(singles(3))
    assert close(found.delta, make("memit", lm, layers=[1], mom2_weight=weight).edit(singles(3)).delta, 1e-9)
    assert found.diagnostics[1]["mom2_weight"] == weight
    assert make("memit", lm, layers=[1], mom2_weight=2.0).measured == {}


def test_lambda_that_cannot_be_measured_is_an_error():
    editor = make("memit", tiny(), layers=[0], mom2_weight="auto")
    editor.artifacts["moments"], editor._factors = {0: Moment(-torch.eye(64), 1)}, {}
    vars(editor).pop("mom2_weights", None)
    with pytest.raises(ValueError, match=r"auto cannot be measured: k.T C.-1 k at layer 0 is 0.0; take"):
        editor.edit(singles(1))


def test_fts_box_is_a_share_of_the_weights_size_in_each_layer():
    lm = tiny()
    with torch.no_grad():
        lm.weight(lm.projection(1)).mul_(3.0)
    editor = make("ft", lm, layers=[0, 1], norm_constraint="auto", steps=40, lr=0.05)
    found = editor.edit(singles(2))
    for layer, delta in zip((0, 1), found.delta, strict=True):
        box = BOX_SHARE * lm.weight(lm.projection(layer)).pow(2).mean().sqrt().item()
        assert editor.measured["norm_constraint"][layer] == pytest.approx(box)
        assert delta.weight.abs().max().item() == pytest.approx(box)
        assert delta.bias.abs().max().item() <= box * (1 + 1e-9)
    number = make("ft", lm, layers=[0, 1], norm_constraint=0.01, steps=4)
    assert number.measured == {}
    assert make("ft", lm, layers=[0, 1], norm_constraint=None).measured == {}
    (box,) = make("ft", lm, layers=[0], norm_constraint="auto").measured["norm_constraint"].values()
    alone = {"layers": [0], "steps": 6}
    auto, same = (make("ft", lm, **alone, norm_constraint=given).edit(singles(2)) for given in ("auto", box))
    assert close(auto.delta, same.delta, 1e-12)


def test_they_are_the_defaults_and_give_way_to_a_models_file():
    assert (MemitSettings().mom2_weight, FtSettings().norm_constraint) == ("auto", "auto")
    model = {"n_layers": 12, "editors": {"memit": {"mom2_weight": 15000.0}, "ft": {"norm_constraint": None}}}
    for method, name, own in (("memit", "mom2_weight", 15000.0), ("ft", "norm_constraint", None)):
        editor = {"method": method, "settings": {}}
        assert merged_settings(editor, model)[name] == own
        assert merged_settings(editor, {**model, "editors": {}})[name] == "auto"


def test_trials_say_what_was_measured_and_the_page_shows_it():
    lm, edits, probes = known_cases(4)
    given = {**SETTINGS["ft"], "layers": [1], "steps": 2}
    trials = tune(lm, "ft", given, {"norm_constraint": [None, "auto"]}, 2, edits, probes, TEMPLATE_ROWS)
    TRIALS.check(trials)
    box = BOX_SHARE * lm.weight(lm.projection(1)).pow(2).mean().sqrt().item()
    assert trials["measured"].isna().tolist() == [True, False]
    assert json.loads(trials["measured"][1]) == {"norm_constraint": {"1": pytest.approx(box)}}
    table = layouts.trials("some", "ft", trials)
    assert f"norm_constraint {box:.3g} (layer 1)" in json.dumps(table)
    without = layouts.trials("some", "ft", trials.assign(measured=None))
    assert "measured" not in [column["id"] for column in without["columns"]]


def test_a_method_that_writes_too_little_on_dev_edits_is_named():
    rows = [(0, "{}", 0.2, 0.1, 1.0, 0.02, True, None), (1, "{}", 0.3, 0.0, 1.0, 0.0, False, None)]
    trials = pd.DataFrame(rows, columns=list(TRIALS.columns))
    (line,) = unwritten("smol", "memit", trials)
    assert line.startswith(f"Not set up: memit on smol writes {percent(0.2)} of the dev edits")
    assert f"with the best of 2 settings, and no setting more than {percent(0.3)};" in line
    better = copy.deepcopy(trials)
    better.loc[1, "success"] = 0.9
    (line,) = unwritten("smol", "memit", better)
    assert "no setting more" not in line
    better.loc[0, "success"] = 0.5
    assert unwritten("smol", "memit", better) == []
