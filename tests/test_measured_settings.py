"""Settings that are `auto`: what they come to on a model, from the formula, and who is told."""

import copy
import json

import pandas as pd
import pytest
import torch

from aftershock.config.settings import merged_settings
from aftershock.editors.ft import BOX_SHARE, FtSettings
from aftershock.editors.memit import MemitSettings
from aftershock.editors.multi_layer_settings import PROBE_SHARE
from aftershock.experiments.tuning import tune
from aftershock.lm.statistics.moments import Moment
from aftershock.lm.statistics.probe_keys import PROMPT, SUBJECTS
from aftershock.page import layouts
from aftershock.prompts import fill
from aftershock.tables.runs import TRIALS
from aftershock.verdicts import unwritten
from aftershock.words import percent
from editing import SETTINGS, close, make, singles
from test_moments import keys
from test_protocol import TEMPLATE_ROWS, known_cases
from tiny import moments, tiny

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
