"""Recorded runs of the released code are reproduced, and the runner says so when they are not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aftershock.editors.methods import settings_of
from aftershock.lm.edits import Dense, Scale
from aftershock.lm.statistics.null_space import Spectrum
from golden import main
from recorded import CLOSED_FORM, Check, NotCoveredError, Recorded, relative, worst
from recorded_edits import delta_checks
from recorded_memories import _wise_hparams as wise_hparams
from recorded_neurons import settings_from as neuron_settings
from recorded_remembering import _queue as queue
from recorded_results import difference
from recorded_settings import settings_from
from test_ultraedit import slow as slow_ultraedit
from tiny import requests, tiny

SHARED = Path(__file__).parents[1].parent / "shared"
GOLDEN, FAULTS = SHARED / "golden", SHARED / "faults" / "golden"
recorded, faults = (
    pytest.mark.skipif(not folder.is_dir(), reason=f"no recorded cases beside this checkout ({folder})")
    for folder in (GOLDEN, FAULTS)
)


def copied(folder, *cases):
    """Copy the model of recorded cases of GPT-2, and these cases, below a folder."""
    for part in ("models/tiny-gpt2", *(f"cases/{case}" for case in cases)):
        shutil.copytree(GOLDEN / part, folder / part, copy_function=shutil.copyfile)


@recorded
@pytest.mark.thorough  # `make golden` runs them too
def test_recorded_cases_are_reproduced(capsys):
    assert main([str(GOLDEN)]) == 0
    lines = capsys.readouterr().out.splitlines()
    passed = sum(" pass " in line for line in lines)
    assert lines[-1] == f"{passed} passed, 0 failed"
    methods = "ft rome memit mle-memit mend scoring metrics memit-seq encore emmet alphaedit kn grace"
    assert set(methods.split()) <= {line.split()[0] for line in lines if " pass " in line}


@recorded
def test_a_part_of_the_folder_and_a_wrong_record(tmp_path, capsys):
    copied(tmp_path, "ft-gpt2/constr")
    case = tmp_path / "cases" / "ft-gpt2" / "constr"
    shutil.copytree(case, tmp_path / "cases" / "other-gpt2" / "constr")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("1 passed, 0 failed\n")
    assert "other      gpt2/constr              not implemented" in out

    outputs = json.loads((case / "outputs.json").read_text())
    outputs["trace"][0][3]["loss"] += 0.01
    (case / "outputs.json").write_text(json.dumps(outputs))
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "losses 1.0e-02 (<=0.0001 OUT)" in out
    assert out.endswith("0 passed, 1 failed\n")


@faults
def test_recorded_cases_that_once_failed_are_reproduced(capsys):
    assert main([str(FAULTS)]) == 0
    out = capsys.readouterr().out
    assert out.endswith(" passed, 0 failed\n")
    assert "not covered" not in out
    rows = {tuple(line.split()[:3]) for line in out.splitlines()}
    assert {("ft", "neox/wd", "pass"), ("memit", "neox/single", "pass")} <= rows


@recorded
def test_a_hyperparameter_without_a_meaning_here_and_a_broken_case(tmp_path, capsys):
    copied(tmp_path, "ft-gpt2/constr", "ft-gpt2/unconstr", "ft-gpt2/ee-target_new")

    def change(case, **hparams):
        path = tmp_path / "cases" / "ft-gpt2" / case / "inputs.json"
        inputs = json.loads(path.read_text())
        path.write_text(json.dumps(inputs | {"hparams": inputs["hparams"] | hparams}))

    change("constr", temperature=0.5)
    (tmp_path / "cases" / "ft-gpt2" / "ee-target_new" / "golden.safetensors").unlink()
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "ft         gpt2/constr              not covered: temperature\n" in out
    assert "ft         gpt2/ee-target_new       FAIL  KeyError: " in out
    assert "ft         gpt2/unconstr            pass" in out
    assert out.endswith("1 passed, 1 failed\n")

    change("unconstr", layer_module_tmp="transformer.layers.{}")
    change("constr", temperature=None, fp16=True)
    main([str(tmp_path)])
    out = capsys.readouterr().out
    assert "gpt2/unconstr            not covered: layer_module_tmp transformer.layers.{}" in out
    assert "gpt2/constr              not covered: fp16 True" in out


def test_a_queue_starts_in_roots_of_the_loss_in_the_loss_or_in_numbers():
    start = {"alpha": 60, "V": 1, "b": 0}
    numbers, units = queue({**start, "a": "1_D", "Z": "2.5sqrtD", "zmax": 3})
    assert numbers == {**start, "a": 1.0, "Z": 2.5, "zmax": 3}
    assert units == {"queue_step_unit": "loss", "queue_start_unit": "root", "queue_floor_unit": "one"}
    for wrong in ({"a": "1sqrtD"}, {"a": "2_D"}, {"Z": "2D"}, {"zmax": "1_sqrtD"}):
        with pytest.raises(NotCoveredError, match=next(iter(wrong))):
            queue({**start, "a": "1_sqrtD", "Z": "D", "zmax": "D", **wrong})


def test_hyperparameters_become_settings():
    lm = tiny()
    modules = {"rewrite_module_tmp": lm.family.projection, "mlp_module_tmp": lm.family.mlp}
    ft = settings_from("ft", {**modules, "layers": [1], "weight_decay": 0, "norm_constraint": False}, lm)
    assert (ft.layers, ft.weight_decay, ft.norm_constraint, ft.wd_power_law) == ((1,), 0.0, None, None)
    assert settings_from("ft", {"wd_power_law": [-0.8, 0.1], "kl_factor": 1}, lm).wd_power_law == (-0.8, 0.1)
    ends = {"mlp_module_tmp": lm.family.projection, "norm_constraint": 1, "weight_decay": False}
    ft = settings_from("ft", ends, lm)  # a norm that is no float is none in the release
    assert (ft.norm_constraint, ft.weight_decay) == (None, 0.0)
    names = ("original_implementation", "enable_prompt_keys", "enable_random_prefix_keys")
    for flags, keys in {
        (False, False, True): "averaged",
        (False, True, False): "prompt",
        (True, True, True): "averaged",
        (): "averaged",
    }.items():
        assert settings_from("r_rome", dict(zip(names, flags, strict=False)), lm).keys == keys
    for wrong in ((False, True, True), (False, False, False), (True, False, False)):
        with pytest.raises(NotCoveredError, match="enable_prompt_keys"):
            settings_from("r_rome", dict(zip(names, wrong, strict=True)), lm)
    memit = settings_from("memit", {"v_lr": 0.1, "mom2_update_weight": 5.0, "layer_selection": "all"}, lm)
    assert (memit.lr, memit.mom2_weight) == (0.1, 5.0)
    with pytest.raises(NotCoveredError, match=r"layers \[1, 0\]"):
        settings_from("memit", {"v_loss_layer": 2, "layers": [1, 0]}, lm)
    with pytest.raises(NotCoveredError, match="fact_token last"):
        settings_from("memit", {"fact_token": "last"}, lm)
    with pytest.raises(NotCoveredError, match=r"^nullspace_threshold, v_depth$"):
        settings_from("memit", {"v_depth": 1, "nullspace_threshold": 0.1}, lm)


@recorded
def test_the_recorded_projection_on_a_null_space():
    folder = GOLDEN / "cases" / "alphaedit-gpt2" / "two-calls"
    if not folder.is_dir():
        pytest.skip("no recorded case of AlphaEdit")
    case = Recorded.read(folder, GOLDEN)
    hparams = case.inputs["hparams"]
    for layer, wanted in zip(hparams["layers"], case.tensors["P"], strict=True):
        basis = Spectrum.of(case.moments[layer].matrix).below(hparams["nullspace_threshold"])
        assert relative(basis @ basis.T, wanted) < CLOSED_FORM


def test_what_the_released_code_of_grace_does_not_read_does_not_matter():
    plain = neuron_settings("grace", {"n_iter": 5, "val_train": "sgd", "val_reg": None, "dist_fn": "euc"})
    other = {"val_train": "pert", "val_reg": "None", "dist_fn": "cos", "dropout": 0.5}
    assert neuron_settings("grace", {"n_iter": 5, **other}) == plain
    assert neuron_settings("grace", {"n_iter": 5, "batch_size": 10, "max_length": 30}) == plain
    with pytest.raises(NotCoveredError, match="val_train adv"):
        neuron_settings("grace", {"val_train": "adv"})


def test_what_wise_does_with_merged_memories_matters_where_there_are_some():
    given = {"act_margin": [1.0, 4.0, 2.0], "merge_freq": 4, "retrieve": True, "save_path": None}
    given |= {"merge_alg": "slerp", "replay": True}
    margins = {"alpha": 1.0, "beta": 4.0, "gamma": 2.0, "merge_freq": 4, "retrieve": True}
    assert wise_hparams(given, 3) == margins
    assert wise_hparams(given, 4) == {**margins, "merge_alg": "slerp"}  # which ends in a merge
    assert wise_hparams(given, 5) == {**margins, "merge_alg": "slerp", "replay": True}
    assert "merge_alg" in wise_hparams({**given, "retrieve": False}, 1)
    with pytest.raises(NotCoveredError, match="act_margin"):
        wise_hparams({**given, "beta": 5.0}, 1)


def test_equal_infinities_and_missing_numbers_differ_by_nothing():
    inf, nan = float("inf"), float("nan")
    assert difference([inf, -inf, nan, 1.0], [inf, -inf, nan, 1.5]) == 0.5
    assert difference(-inf, 1.0) == inf
    assert not Check("CM", difference(nan, 1.0), 1.0).passed


@recorded
def test_easyedits_port_of_ultraedit_is_replayed_by_the_labels_that_it_learned(tmp_path, capsys):
    copied(tmp_path)
    module, texts = "transformer.h.2.mlp.c_proj", requests(4)
    hparams = {"lr": 1e-3, "batch_size": 4, "batch_size_once": 2, "token": "mask", "half": False}
    hparams["inner_params"] = [f"{module}.weight"]
    inputs = {"model": "models/tiny-gpt2", "peer": "zjunlp/EasyEdit ultraedit", "probes": []}
    inputs["hparams"] = hparams
    names = {"target_true": "str", "target_new": "str"}
    inputs["requests"] = [
        {"prompt": r.prompt, "subject": r.subject} | {n: {key: getattr(r, n)} for n, key in names.items()}
        for r in texts
    ]
    lm = Recorded(Path(), tmp_path, inputs, {}, {}).lm
    inputs["intermediate"] = []
    for number in range(2):
        part = texts[2 * number : 2 * number + 2]
        rows = lm.tokenizer([f"{r.text} {r.target_new}" for r in part], padding=True, padding_side="left")
        labels = lm.tokenizer([f" {r.target_new}" for r in part], padding=True, padding_side="left")
        inputs["intermediate"].append({"name": f"call1.mb{number}", **rows, "labels": labels["input_ids"]})
    settings = settings_of("ultraedit", {"lr": 1e-3, "batch_size": 2, "rows": "all"})
    with torch.no_grad():
        change = slow_ultraedit(lm, texts, settings, [module])[0][module]
    case = tmp_path / "cases" / "ultraedit-gpt2" / "easyedit-port"
    case.mkdir(parents=True)
    save_file({f"delta.{module}.weight": change.T.contiguous()}, case / "golden.safetensors")
    outputs = {f"eval_{when}": [{}] * len(texts) for when in ("pre", "post")}
    (case / "outputs.json").write_text(json.dumps(outputs))

    def replayed():
        (case / "inputs.json").write_text(json.dumps(inputs))
        main([str(tmp_path)])
        return capsys.readouterr().out

    assert "gpt2/easyedit-port       pass" in replayed()
    inputs["intermediate"][0]["labels"][0][0] += 1
    assert "labels 1.0e+00 (<=0 OUT)" in replayed()
    hparams["temperature"] = 1.0
    assert "not covered: temperature" in replayed()


@pytest.mark.parametrize(
    ("kind", "module"), [(Dense, "transformer.h.1.mlp.c_proj"), (Scale, "transformer.h.1.ln_2")]
)
def test_a_weight_is_compared_with_its_bias_and_what_did_not_change_need_not_be_recorded(kind, module):
    lm = tiny()
    shape = lm.weight(module).shape if kind is Dense else (lm.d_model,)
    change = kind(module, torch.zeros(1, *shape), torch.ones(1, lm.d_model))

    def passed(change, **tensors):
        tensors = {f"delta.{module}.{name}": tensor for name, tensor in tensors.items()}
        case = Recorded(Path(), Path(), {}, {}, tensors)
        return all(check.passed for check in delta_checks(case, lm, (change,)))

    bias = torch.ones(lm.d_model)
    assert passed(change, bias=bias)
    assert not passed(change, bias=0 * bias)
    assert not passed(change)
    assert not passed(replace(change, bias=change.bias * 0), bias=bias)
    moved = replace(change, weight=change.weight + 1)
    weight = torch.ones(shape[::-1])  # as this model stores it
    assert passed(moved, weight=weight, bias=bias)
    assert not passed(moved, weight=weight, bias=2 * bias)


def test_the_worst_of_each_output_is_kept():
    kept = worst([*(Check("a", error, 1.0) for error in (1e-9, float("nan"), 2.0)), Check("b", 0.0, 0.0)])
    assert [(check.output, check.passed) for check in kept] == [("a", False), ("b", True)]


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no folder cases/"):
        main([str(tmp_path)])
