"""Every family: its modules, and one edit of each method, on tiny random models."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from aftershock.editors.methods import settings_of
from aftershock.lm.edits import Batch, apply_deltas
from aftershock.lm.families import family_of, list_families
from aftershock.lm.fused import REBUILT
from aftershock.lm.hooks import record_activations, with_added
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest, Query
from editing import STRONG, assert_written, built
from tiers import of_families
from tiny import (
    FAMILIES,
    MORE,
    ROUNDING,
    TEMPLATES,
    TEXTS,
    changed_outputs,
    dense,
    save,
    small_tokenizer,
    target_log_probs,
    tiny,
    with_each,
    written,
)

every_family = pytest.mark.parametrize("family", [*FAMILIES, *MORE])


def test_every_family_has_a_tiny_model():
    assert FAMILIES.keys() | MORE.keys() == set(list_families())


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match="unknown model type 'mamba'; known: apertus, arcee, cohere, "):
        family_of("mamba")


@pytest.mark.parametrize("family", of_families([*FAMILIES, *MORE]))
def test_a_saved_model_is_loaded_as_it_was(family, tmp_path):
    lm = tiny(family, torch.float32)
    again = LanguageModel.load(save(lm, tmp_path))
    ids, mask = lm.pad(lm.encode(TEXTS[:2]))
    assert torch.equal(again.logits(again.run(ids, mask)), lm.logits(lm.run(ids, mask)))
    assert again.family is family_of(family)
    assert (again.model.training, again.tokenizer.padding_side) == (False, "right")
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("family", "name", "value"), [("opt", "do_layer_norm_before", False), ("falcon", "alibi", True)]
)
def test_a_size_that_is_built_differently_is_refused(family, name, value):
    config = copy.deepcopy(tiny(family).model.config)
    setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ValueError, match=f"its {name} is {value}, and a model of type {family} can only be"):
        LanguageModel(model, small_tokenizer())


GROUPED = {"new_decoder_architecture": True, "num_kv_heads": 1}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("opt", {}),
        ("falcon", {}),
        ("falcon", GROUPED),
        ("falcon", GROUPED | {"num_ln_in_parallel_attn": 1}),
        ("falcon", {"parallel_attn": False, "multi_query": False}),
        ("gpt_neo", {}),
    ],
)
@torch.no_grad()
def test_rebuilt_layers_make_the_same_numbers(family, changes):
    config = copy.deepcopy(tiny(family).model.config)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).double().eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.25)
    lm = LanguageModel.wrap(model, small_tokenizer())
    ids, mask = lm.pad(lm.encode(TEXTS[:3]))
    found, wanted = lm.logits(lm.run(ids, mask)), model(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(found[mask.bool()], wanted[mask.bool()], rtol=0, atol=1e-12)
    assert list(lm.model.state_dict()) == list(model.state_dict())
    kinds = [[type(module) for module in each.modules()] for each in (lm.model, model)]
    assert set(kinds[0]) & set(REBUILT.values())
    assert not set(kinds[0]) & set(REBUILT)
    assert set(kinds[1]) & set(REBUILT)


# --- modules -----------------------------------------------------------------------------------------------
def seen_in(lm, inputs=(), outputs=()):
    """Return the inputs and outputs of modules in a pass over two texts."""
    with torch.no_grad(), record_activations(lm, inputs=inputs, outputs=outputs) as seen:
        lm.run(*lm.pad(lm.encode(TEXTS[:2])))
    return seen


def is_product(lm, name, seen):
    """True if a module's weight is (out, in), with its bias."""
    bias = lm.bias(name) if lm.bias(name) is not None else 0.0
    return torch.allclose(seen["out", name], seen["in", name] @ lm.weight(name).T + bias)


@every_family
def test_matrices_of_an_mlp_are_the_first_ones_and_the_projection(family):
    lm = tiny(family)
    inside = lm.mlp(1) if lm.projection(1).startswith(f"{lm.mlp(1)}.") else lm.layer(1)
    names = [f"{inside}.{name}" for name, _ in lm.model.get_submodule(inside).named_modules()]
    attention = lm.attention_projection(1).rpartition(".")[0]
    found = [
        name
        for name in names
        if getattr(getattr(lm.model.get_submodule(name.rstrip(".")), "weight", None), "ndim", 0) == 2
        and not name.startswith(f"{attention}.")
    ]
    assert found == [*(name.format(1) for name in lm.family.inputs), lm.projection(1)]
    assert all(lm.is_in_mlp(name, 1) and not lm.is_in_mlp(name, 0) for name in found)
    assert not lm.is_in_mlp(lm.attention_projection(1), 1)
    seen = seen_in(lm, inputs=[lm.mlp(1), *found])
    for name in found[:-1]:
        assert torch.equal(seen["in", name], seen["in", lm.mlp(1)])
    assert torch.equal(seen["out", lm.projection(1)], seen["out", lm.mlp(1)])
    assert all(is_product(lm, name, seen) for name in found)


@every_family
def test_an_attention_puts_out_what_its_projection_does(family):
    lm = tiny(family)
    name = lm.attention_projection(1)
    attention = name.rpartition(".")[0]
    seen = seen_in(lm, inputs=[name], outputs=[attention, name])
    assert torch.equal(seen["out", name], seen["out", attention])
    assert lm.layer_of(name) == 1
    assert is_product(lm, name, seen)
    inner = [module for module in lm.model.get_submodule(attention).modules() if hasattr(module, "weight")]
    assert lm.model.get_submodule(name) in inner


@every_family
@torch.no_grad()
def test_an_mlp_joins_the_stream_through_its_norm_and_scale_only(family):
    lm = tiny(family)
    ids, mask = lm.pad(lm.encode(TEXTS[:2]))
    batch = Batch.of_prompts(ids, mask, torch.zeros(2, dtype=torch.long))
    names = [lm.mlp(1), lm.layer(1)]
    with record_activations(lm, outputs=names) as before:
        lm.run(ids, mask)
    with apply_deltas(lm, (dense(lm, 1, 1),), batch), record_activations(lm, outputs=names) as after:
        lm.run(ids, mask)
    norm = lm.family.mlp_norm
    through = lm.model.get_submodule(norm.format(1)) if norm else torch.nn.Identity()
    scale = {"granite": 0.7}.get(family, 1.0)
    old, new = (scale * through(seen["out", lm.mlp(1)]) for seen in (before, after))
    assert torch.equal(lm.joined(1, after["out", lm.mlp(1)]), new)
    assert (new - old).abs().max() > 0.01
    assert torch.allclose(after["out", lm.layer(1)] - before["out", lm.layer(1)], new - old, atol=1e-9)


@every_family
@torch.no_grad()
def test_a_vector_that_an_mlp_puts_out_more_reaches_the_stream(family):
    lm = tiny(family)
    ids = torch.tensor(lm.encode(TEXTS[:1]))
    names = [lm.mlp(1), lm.layer(1)]
    added = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(1), dtype=lm.dtype)
    with record_activations(lm, outputs=names) as before:
        lm.run(ids, None)
    with (
        changed_outputs(lm, {lm.mlp(1): lambda made: made + added}),
        record_activations(lm, outputs=names) as after,
    ):
        lm.run(ids, None)
    mlp = before["out", lm.mlp(1)] if lm.family.changes_output else None
    found = with_added(lm, 1, before["out", lm.layer(1)], mlp, added)
    assert torch.allclose(found, after["out", lm.layer(1)], atol=1e-9)
    assert (found - before["out", lm.layer(1)]).abs().max() > 0.01


@every_family
@torch.no_grad()
def test_the_final_norm_and_the_head_make_the_models_scores(family):
    lm = tiny(family)
    ids, mask = lm.pad(lm.encode(TEXTS[:2]))
    with record_activations(lm, outputs=[lm.layer(lm.n_layers - 1)]) as seen:
        hidden = lm.run(ids, mask)
    last = seen["out", lm.layer(lm.n_layers - 1)]
    assert torch.equal(lm.model.get_submodule(lm.family.norm)(last), hidden)
    texts = mask.bool()  # padding is the model's own business
    wanted = lm.model(input_ids=ids, attention_mask=mask).logits
    assert torch.allclose(lm.logits(hidden)[texts], wanted[texts])


# --- edits -------------------------------------------------------------------------------------------------
SETTINGS = {**STRONG, "r_rome": STRONG["rome"] | {"keys": "prompt"}}


@pytest.mark.parametrize(("method", "family"), of_families(with_each(list(SETTINGS))))
def test_an_edited_case(method, family):
    """Two unlike cases edited side by side: as if each had been written into the weights alone."""
    lm, first = tiny(family), EditRequest(TEMPLATES[0], "Dario", "Oslo")
    cases = (first, EditRequest(TEMPLATES[1], "Edith {Oak} Tull", "Greenfield, Old Mill Town"))
    editor = built(method, lm, settings_of(method, SETTINGS[method]), [["{}"]])
    before = copy.deepcopy(lm.model.state_dict())
    result = editor.edit([[case] for case in cases])
    assert result.reasons == (None, None)
    pairs = encode_pairs(lm, [(case.text, case.target_new) for case in cases])
    assert len({len(pair.prompt) for pair in pairs}) == len({len(pair.target) for pair in pairs}) == 2
    queries = [Query(case.text, case.target_new, i) for i, case in enumerate(cases)]
    unedited, found = score(lm, queries), score(lm, queries, result.delta)
    for i, (pair, old, new) in enumerate(zip(pairs, unedited, found, strict=True)):
        dense_lm = written(lm, result.delta, i)
        wanted = target_log_probs(dense_lm, pair.prompt + pair.target, len(pair.target))
        assert new.token_logprobs == pytest.approx(wanted, abs=ROUNDING[family])
        assert new.logprob != pytest.approx(old.logprob, abs=1e-3)
        if method == "ft":
            assert new.logprob > old.logprob + 0.5
        else:
            assert_written(method, lm, dense_lm, cases[i], result.diagnostics[0], i)
        alone = editor.edit([[cases[i]]]).delta
        for delta, mine in zip(result.delta, alone, strict=True):
            assert torch.allclose(delta.dense()[i], mine.dense()[0], rtol=1e-6, atol=1e-8)
    assert all(torch.equal(before[name], tensor) for name, tensor in lm.model.state_dict().items())
