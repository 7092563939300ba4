"""Changed models: weights that hold deltas for a while, and the forms that other programs load."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from aftershock.lm.edits import Dense, LowRank, State
from aftershock.lm.edits.export import PATCH, export, load_patch
from aftershock.lm.edits.fold import fold
from aftershock.lm.edits.saved import load_deltas
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from editing import questions
from tiers import of_families
from tiny import CITIES, FAMILIES, NAMES, ROUNDING, TEXTS, dense, low_rank, tiny
from toy_deltas import adapters, nudge, rows

TOLERANCE = 1e-4
QUERIES = questions(NAMES[:3], CITIES[:3], [1])


def said(lm: LanguageModel, state: State = ()) -> list[float]:
    """Log-probabilities of some targets in case 1 of a state."""
    return [s.logprob for s in score(lm, QUERIES, state)]


def several(lm: LanguageModel) -> State:
    """Low-rank changes of three modules: two of one, one of an MLP's first matrix, one of neurons."""
    first = lm.family.inputs[0].format(2)
    d_out, d_in = lm.weight(first).shape
    g = torch.Generator().manual_seed(6)
    U, V = (torch.randn(3, 4, d, generator=g, dtype=lm.dtype) * 0.3 for d in (d_in, d_out))
    return (low_rank(lm, 0, 3), LowRank(first, U, V), low_rank(lm, 0, 3, rank=1, seed=4), rows(lm, 1))


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_an_exported_model_says_what_the_deltas_say(family, tmp_path):
    lm = tiny(family, torch.float32)
    state = (*several(lm), dense(lm, 1, 3))
    wanted = said(lm, state)
    assert max(abs(a - b) for a, b in zip(wanted, said(lm), strict=True)) > 0.1
    export(lm, state, 1, tmp_path / "model", "model")
    again = LanguageModel.load(tmp_path / "model")
    # transformers reads this tokenizer by the rules of some families' own, which it does not follow
    assert said(LanguageModel(again.model, lm.tokenizer)) == pytest.approx(wanted, abs=TOLERANCE)
    if family == "gpt2":
        assert again.encode(TEXTS) == lm.encode(TEXTS)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / "model")(TEXTS[0], return_tensors="pt")["input_ids"]
    with fold(lm, state, 1), torch.no_grad():
        mine = lm.model(input_ids=ids).logits.log_softmax(-1)
    assert torch.allclose(theirs(input_ids=ids).logits.log_softmax(-1), mine, atol=TOLERANCE)


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_an_exported_adapter_says_what_the_deltas_say_in_peft(family, tmp_path):
    lm = tiny(family, torch.float32)
    state = several(lm)
    wanted = said(lm, state)
    lm.model.save_pretrained(tmp_path / "base")
    export(lm, state, 1, tmp_path / "lora", "lora")
    files = {path.name for path in (tmp_path / "lora").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, tmp_path / "lora")
    changed = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default"): module.out_features
        for name, module in adapted.named_modules()
        if name.endswith(".lora_A.default")
    }
    assert changed == {lm.projection(0): 3, lm.family.inputs[0].format(2): 4, lm.projection(1): 3}
    ids = torch.tensor(lm.encode(TEXTS[:1]))
    with fold(lm, state, 1), torch.no_grad():
        mine = lm.model(input_ids=ids).logits.log_softmax(-1)
        assert torch.allclose(adapted.eval()(input_ids=ids).logits.log_softmax(-1), mine, atol=TOLERANCE)
    merged = LanguageModel(adapted.merge_and_unload(), lm.tokenizer)
    assert said(merged) == pytest.approx(wanted, abs=TOLERANCE)


def test_an_adapter_hits_the_named_layer_and_no_other(tmp_path):
    """Layer 1 of a model that has layers 10 and 11 as well."""
    config = GPT2Config(n_layer=12, n_embd=16, n_head=2, vocab_size=len(tiny().tokenizer), n_positions=48)
    torch.manual_seed(0)
    lm = LanguageModel(AutoModelForCausalLM.from_config(config), tiny().tokenizer)
    export(lm, (low_rank(lm, 1, 2, 3), low_rank(lm, 11, 2, 1)), 1, tmp_path / "lora", "lora")
    lm.model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, tmp_path / "lora")
    ranks = {name: m.weight.shape for name, m in adapted.named_modules() if name.endswith("lora_A.default")}
    assert {name.split(".")[4]: shape[0] for name, shape in ranks.items()} == {"1": 3, "11": 1}


def test_a_case_without_changes_in_some_ranks_has_a_smaller_adapter(tmp_path):
    lm = tiny(dtype=torch.float32)
    padded = low_rank(lm, 0, 2, rank=3)
    padded.V[1, 1:] = 0.0  # the case has one request, others have three
    absent = low_rank(lm, 1, 2).without(torch.tensor([False, True]))
    export(lm, (padded, absent), 1, tmp_path / "lora", "lora")
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert set(config["rank_pattern"].values()) == {1}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_patch_is_read_back_for_its_own_model_only(family, tmp_path):
    lm = tiny(family, torch.float32)
    state = (*several(lm), dense(lm, 1, 3))
    export(lm, state, 1, tmp_path / "patch", "patch")
    again = load_patch(lm, tmp_path / "patch")
    assert [type(d) for d in again] == [type(d) for d in state]
    alone = [s.logprob for s in score(lm, [replace(q, case=0) for q in QUERIES], again)]
    assert alone == pytest.approx(said(lm, state), abs=TOLERANCE)
    notes = load_deltas(tmp_path / "patch" / PATCH)[1]
    assert json.loads(notes["modules"]) == sorted({d.module for d in state})
    other = tiny(family, torch.float32, seed=1)
    message = "patch changes a model whose weights have the hash .*in torch.float32"
    with pytest.raises(ValueError, match=message):
        load_patch(other, tmp_path / "patch")


def test_what_cannot_be_exported_is_named_and_leaves_nothing(tmp_path):
    lm = tiny(dtype=torch.float32)
    low, full, moved = low_rank(lm, 0, 3), dense(lm, 1, 3), nudge(lm, lm.layer(1))
    bad = [
        ((low, full), "lora", r"Dense of transformer\.h\.1\.mlp\.c_proj is not of low rank"),
        ((low, Dense(low.module, full.weight)), "lora", r"Dense of transformer\.h\.0\.mlp\.c_proj is not"),
        ((), "lora", "a state without deltas has no LoRA adapter"),
        ((low,), "onnx", "unknown form 'onnx' of export; known: model, lora, patch"),
        *(((low, moved), form, "Nudge of transformer.h.1 is not") for form in ("model", "lora", "patch")),
    ]
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    for state, form, message in bad:
        with pytest.raises(ValueError, match=message):
            export(lm, state, 0, tmp_path / "made", form)
        assert not list(tmp_path.iterdir())
    (tmp_path / "made").mkdir()
    with pytest.raises(ValueError, match="made exists already; remove it or choose another folder"):
        export(lm, (low,), 0, tmp_path / "made", "patch")
    assert all(torch.equal(before[name], tensor) for name, tensor in lm.model.state_dict().items())


def test_a_failed_export_leaves_neither_folder_nor_change(tmp_path, monkeypatch):
    lm = tiny(dtype=torch.float32)
    before = said(lm)
    monkeypatch.setattr(lm.model, "save_pretrained", lambda folder: shutil.copy("nowhere", folder))
    with pytest.raises(FileNotFoundError):
        export(lm, (low_rank(lm, 0, 3),), 0, tmp_path / "made", "model")
    assert not list(tmp_path.iterdir())
    assert said(lm) == before


# --- weights that hold deltas for a while -------------------------------------------------------------------
def bits(lm: LanguageModel) -> dict[str, Tensor]:
    return copy.deepcopy(lm.model.state_dict())


def assert_same_bits(lm: LanguageModel, before: dict[str, Tensor]) -> None:
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(before[name].view(torch.uint8), tensor.view(torch.uint8)), name


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_folded_weights_do_what_the_deltas_do_and_come_back_bit_for_bit(family):
    lm = tiny(family)
    state = (low_rank(lm, 0, 3), dense(lm, 1, 3), low_rank(lm, 0, 3, rank=1, seed=1), rows(lm, 1))
    before = bits(lm)
    queries = questions(NAMES[:2], ["Oslo"], [1])
    wanted = [s.logprob for s in score(lm, queries, state)]
    with fold(lm, state, 1):
        assert [s.logprob for s in score(lm, queries)] == pytest.approx(wanted, abs=ROUNDING[family])
        inside = bits(lm)
        with fold(lm, (low_rank(lm, 0, 1, seed=7),), 0):
            assert not torch.equal(lm.weight(lm.projection(0)), lm.family.weight(_module(inside, lm)))
        assert_same_bits(lm, inside)
    assert_same_bits(lm, before)
    with pytest.raises(KeyError, match="inside"), fold(lm, state, 2):
        raise KeyError("inside")
    assert_same_bits(lm, before)


def _module(state: dict[str, Tensor], lm: LanguageModel):
    module = copy.deepcopy(lm.model.get_submodule(lm.projection(0)))
    module.weight.data = state[f"{lm.projection(0)}.weight"]
    return module


def test_folding_leaves_tied_weights_tied_and_refuses_to_change_them():
    lm = tiny(dtype=torch.float32)
    head, table = lm.model.get_output_embeddings(), lm.model.get_input_embeddings()
    assert head.weight is table.weight
    before = bits(lm)
    with fold(lm, (low_rank(lm, 0, 1),), 0):
        assert lm.model.get_output_embeddings().weight is table.weight
    assert_same_bits(lm, before)
    twin = lm.model.get_submodule(lm.projection(1))
    twin.weight = lm.model.get_submodule(lm.projection(0)).weight  # as in a model whose layers share them
    shared = r"LowRank of transformer\.h\.0\.mlp\.c_proj: its weight is also that of transformer\.h\.1\.mlp"
    with pytest.raises(ValueError, match=shared), fold(lm, (low_rank(lm, 0, 1),), 0):
        pass


def test_a_bfloat16_model_is_folded_in_float32_and_rounded_once():
    lm = tiny(dtype=torch.bfloat16)
    g = torch.Generator().manual_seed(0)
    d_out, d_in = lm.weight(lm.projection(0)).shape
    steps = [
        LowRank(lm.projection(0), *(torch.randn(1, 1, d, generator=g) * 0.02 for d in (d_in, d_out)))
        for _ in range(50)
    ]
    before = bits(lm)
    exact = lm.weight(lm.projection(0)).float() + sum(step.dense()[0] for step in steps)
    with fold(lm, tuple(steps), 0):
        found = lm.weight(lm.projection(0)).clone()
    assert torch.allclose(found.float(), exact, rtol=2**-8, atol=1e-6)
    assert (found.float() - exact).abs().max() <= exact.abs().max() * 2**-8
    one_by_one = lm.weight(lm.projection(0)).clone()
    for step in steps:
        one_by_one += step.dense()[0].bfloat16()
    assert (found.float() - exact).norm() < 0.5 * (one_by_one.float() - exact).norm()
    assert_same_bits(lm, before)


def test_what_no_weights_can_hold_is_refused_before_anything_changes():
    lm = tiny()
    before = bits(lm)
    for bad, message in (
        (nudge(lm, lm.layer(1)), r"Nudge of transformer\.h\.1 is not a change of weights"),
        (adapters(lm)["context"][0], "Preface of no module is not a change of weights"),
        (replace(low_rank(lm, 1, 3), module="transformer.h.1.mlp.c_fc"), r"is for a weight of \(16, 64\)"),
    ):
        with pytest.raises(ValueError, match=message), fold(lm, (low_rank(lm, 0, 3), bad), 0):
            pass
    low, llama = low_rank(lm, 0, 3), tiny("llama")
    with pytest.raises(ValueError, match="no case 3: LowRank of .* has cases 0 to 2"), fold(lm, (low,), 3):
        pass
    bias = Dense(llama.projection(0), dense(llama, 0, 1).weight, torch.zeros(1, llama.d_model))
    with pytest.raises(ValueError, match="changes a bias, but the module has"), fold(llama, (bias,), 0):
        pass
    assert_same_bits(lm, before)
