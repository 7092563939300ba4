"""Causal tracing against one text, one draw and one hook at a time; sweeps, their table and the figure."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from aftershock.experiments import tracing
from aftershock.experiments.sweep import layers_with, sweep
from aftershock.experiments.tracing import Fact, known_facts, trace
from aftershock.figures import save
from aftershock.layers import draw, findings, tracing_rows
from aftershock.prompts import fill
from aftershock.seeds import derive
from aftershock.tables.models import LAYERS
from tiers import of_families
from tiny import CITIES, FAMILIES, NAMES, ROUNDING, TEMPLATES, changed_outputs, saying, target_log_probs, tiny

FACTS = [Fact(TEMPLATES[i % 3], NAMES[i], CITIES[(3 * i) % 8]) for i in range(5)]
SAMPLES, NOISE, SEED = 3, 2.5, 4


def subject_tokens(lm, fact):
    """Positions of the tokens that cover the subject."""
    text = fill(fact.prompt, fact.subject)
    start = text.index(fact.subject)
    spans = lm.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return [i for i, (a, b) in enumerate(spans) if b > start and a < start + len(fact.subject) and b > a]


def probability(lm, fact, change=()):
    """p(object) of one text while modules' outputs go through functions (module, function)."""
    prompt = lm.encode([fill(fact.prompt, fact.subject)])[0]
    (target,) = lm.encode_targets([fact.object])
    with changed_outputs(lm, dict(change)):
        return math.exp(sum(target_log_probs(lm, prompt + target, len(target))))


def obvious_traces(lm, windows):
    """Clean, corrupted and restored probabilities of every fact."""
    embedding = next(n for n, m in lm.model.named_modules() if m is lm.model.get_input_embeddings())
    ids = [lm.encode([fill(f.prompt, f.subject)])[0][i] for f in FACTS for i in subject_tokens(lm, f)]
    scale = NOISE * lm.model.get_input_embeddings()(torch.tensor(ids)).std().item()
    rows = []
    for fact in FACTS:
        at = subject_tokens(lm, fact)
        clean = {}
        names = [name(layer) for layer in range(lm.n_layers) for name in (lm.layer, lm.mlp)]

        def note(name, clean=clean, at=at):
            return lambda output: clean.update({name: output[0, at[-1]].clone()}) or output

        p = probability(lm, fact, [(name, note(name)) for name in names])
        generator = torch.Generator().manual_seed(derive(SEED, "tracing", fact.prompt, fact.subject))
        noise = scale * torch.randn(SAMPLES, len(at), lm.d_model, generator=generator).double()
        table_of = {"corrupted": 0.0, "hidden": [0.0] * lm.n_layers, "mlp": [0.0] * lm.n_layers}

        def restore(name, clean=clean, at=at):
            def function(output):
                output[0, at[-1]] = clean[name]
                return output

            return name, function

        for drawn in noise:

            def blur(output, drawn=drawn, at=at):
                output[0, at] += drawn
                return output

            blurred = [(embedding, blur)]
            table_of["corrupted"] += probability(lm, fact, blurred) / SAMPLES
            for layer in range(lm.n_layers):
                one = [*blurred, restore(lm.layer(layer))]
                several = [*blurred, *(restore(lm.mlp(other)) for other in windows[layer])]
                table_of["hidden"][layer] += probability(lm, fact, one) / SAMPLES
                table_of["mlp"][layer] += probability(lm, fact, several) / SAMPLES
        rows.append({"clean": p, **table_of})
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_traces_equal_those_of_single_texts(family, window, monkeypatch):
    monkeypatch.setattr(tracing, "BATCH_TOKENS", 100)
    lm = tiny(family)
    found = trace(lm, FACTS, SAMPLES, NOISE, window, SEED)
    assert [list(w) for w in found.windows] == ([[0], [1], [2]] if window == 1 else [[0], [0, 1], [1, 2]])
    wanted = obvious_traces(lm, found.windows)
    for name, value in wanted.items():
        got, exact = getattr(found, name), 10 * ROUNDING[family]
        assert torch.allclose(got, value, rtol=exact, atol=exact * 1e-3), (name, got, value)
    effects = found.indirect_effects()
    assert torch.equal(effects["mlp"], found.mlp - found.corrupted[:, None])
    assert (wanted["hidden"] - wanted["corrupted"][:, None]).abs().max() > 1e-6


def test_a_trace_does_not_depend_on_company_and_more_noise_hides_more():
    lm = tiny()
    whole, alone = trace(lm, FACTS, 4, 1.0, seed=1), trace(lm, FACTS[3:4], 4, 1.0, seed=1)
    assert whole.hidden.shape == (5, 3)
    assert torch.allclose(whole.clean[3:4], alone.clean)
    none = trace(lm, FACTS, 2, 1e-9)
    assert torch.allclose(none.corrupted, none.clean, rtol=1e-5)
    assert torch.allclose(none.mlp, none.clean[:, None].expand(-1, 3), rtol=1e-5)
    assert not torch.allclose(whole.corrupted, trace(lm, FACTS, 4, 1.0, seed=2).corrupted)
    with pytest.raises(ValueError, match="needs facts that the model knows, but there are none"):
        trace(lm, [])


def test_known_facts_are_those_that_the_model_says():
    lm = saying("Oslo")
    rows = [
        (4, "e1_true", NAMES[0], "Oslo"),
        (3, "same_subject", NAMES[0], "Oslo"),
        (3, "same_subject", NAMES[1], "Rome"),
        (5, "neighbour", NAMES[2], "Oslo"),
        (6, "e1_true", NAMES[3], "Oslo"),
    ]
    probes = pd.DataFrame(rows, columns=["case_id", "role", "subject", "object"]).assign(relation_id="R1")
    prompts = pd.DataFrame({"relation_id": ["R1"] * 2, "prompt_id": [1, 0], "template": TEMPLATES[:2]})
    wanted = [(3, Fact(TEMPLATES[1], NAMES[0], "Oslo")), (6, Fact(TEMPLATES[1], NAMES[3], "Oslo"))]
    assert known_facts(lm, probes, prompts, 9) == wanted
    assert known_facts(lm, probes, prompts, 1) == wanted[:1]


# --- editing each layer, the table and the figure ----------------------------------------------------------
EDITORS = {
    "one": {"method": "ft", "settings": {"layers": [1], "steps": 2}},
    "two": {"method": "memit", "settings": {"layers": [0, 1], "context_lengths": []}},
}


def swept(layers, editors=EDITORS):
    """A sweep in which an editor is measured by its layers, and those layers."""
    seen = []

    def measure(editor):
        seen.append((type(editor).__name__, list(editor.settings.layers)))
        return 1.0, 0.5, 1.0 / (1 + editor.settings.layers[-1])

    development = SimpleNamespace(lm=tiny(), requests=[[]] * 7, measure=measure)
    return sweep(development, editors, layers), seen


def test_every_layer_is_edited_with_those_before_it():
    table, seen = swept([0, 1, 2])
    LAYERS.check(table)
    assert seen == [("Ft", [0]), ("Ft", [1]), ("Ft", [2]), ("Memit", [0, 1]), ("Memit", [1, 2])]
    found = table.set_index(["analysis", "measure", "layer"])
    assert found.loc[("two", "objective", 2), "value"] == pytest.approx(0.5 / 3)
    assert found.loc[("two", "objective", 2), "layers"] == "[1, 2]"
    assert found.loc[("one", "locality", 1), "value"] == 0.5
    assert set(table["n"]) == {7}
    assert layers_with("moments", EDITORS, [1, 2]) == [0, 1, 2]
    assert layers_with("moments", EDITORS, [1]) == [0, 1]
    assert layers_with("moments", {"one": EDITORS["one"]}, [1]) == []
    with pytest.raises(ValueError, match=r"memit edits 2 layers together; layers \[0\] are too low"):
        swept([0], {"two": EDITORS["two"]})


def test_effects_have_intervals_over_facts_and_the_best_layer_is_said(tmp_path):
    draws = np.random.default_rng(0).normal([0.1, 0.4, 0.0], 0.05, (60, 3))
    draws[:, 2] = 0.0
    clusters = pd.Series(np.arange(60) // 2)
    windows = (range(0, 1), range(0, 2), range(1, 3))
    table = tracing_rows({"hidden": draws, "mlp": draws / 2}, windows, clusters, seed=0)
    LAYERS.check(table)
    rows = table.set_index(["measure", "layer"])
    assert rows.loc[("hidden", 1), "value"] == pytest.approx(draws[:, 1].mean())
    half = 1.96 * 0.05 / 60**0.5
    assert rows.loc[("hidden", 1), "high"] - draws[:, 1].mean() == pytest.approx(half, rel=0.4)
    narrow = tracing_rows({"hidden": draws}, windows, clusters, seed=0, level=0.5)
    assert narrow["high"][1] - narrow["value"][1] == pytest.approx(half * 0.674 / 1.96, rel=0.4)
    assert rows.loc[("mlp", 1), "layers"] == "[0, 1]"
    assert rows.loc[("hidden", 1), "layers"] == "[1]"
    assert rows.loc[("hidden", 2), ["low", "high"]].isna().all()
    table = pd.concat([table, swept([0, 1, 2])[0]], ignore_index=True)
    said = findings(table)
    assert "output of a layer at the subject gives most probability back at layers [1]: 0.4" in said[0]
    assert said[2:] == [
        "one edits best at layers: [0] (objective 0.500)",
        "two edits best at layers: [0, 1] (objective 0.250)",
    ]
    figure = draw(table, "a $model$")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["Restored at the subject", "Edited with one", "Edited with two"]
    save(figure, tmp_path, "layers")
    assert "a $model$" in (tmp_path / "layers.svg").read_text()
    assert (tmp_path / "layers.png").stat().st_size > 10_000
