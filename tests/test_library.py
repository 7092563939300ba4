"""Names of `import aftershock`: examples of docstrings and of the README, and models as others make them."""

import copy
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import aftershock
from aftershock import EditRequest, LanguageModel, Query, edit, export, generate, library, score
from aftershock.editors.methods import make_editor, settings_of
from aftershock.lm import model
from aftershock.lm.model import context_of
from aftershock.lm.scoring import score as scored
from editing import make
from tiny import CITIES, NAMES, TEMPLATES, moments, requests, save, target_log_probs, tiny

ROOT = Path(__file__).parents[1]
REQUEST = EditRequest(TEMPLATES[0], NAMES[0], "Rome")


@pytest.fixture
def lm():
    return tiny("llama", torch.float32)


@pytest.mark.parametrize("module", [aftershock, library, model])
def test_examples_of_docstrings_are_right(module, lm, tmp_path):
    weights = save(lm, tmp_path / "weights")
    found = doctest.testmod(module, extraglobs={"lm": lm, "folder": tmp_path, "weights": weights})
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", aftershock.__all__)
def test_everything_offered_has_an_example_or_is_data(name):
    assert name in ("EditRequest", "Query") or ">>> " in getattr(aftershock, name).__doc__


def test_importing_loads_nothing():
    code = "import sys, aftershock; print(len([m for m in sys.modules if m.startswith('aftershock.')]))"
    code += "; print('torch' in sys.modules, 'edit' in dir(aftershock), aftershock.__version__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["0", "False", "True", aftershock.__version__]
    with pytest.raises(AttributeError, match="has no attribute 'edits'"):
        aftershock.edits  # noqa: B018


def test_a_model_of_the_users_own_is_not_altered(tmp_path):
    lm = tiny("llama", torch.float32)
    own = AutoModelForCausalLM.from_pretrained(save(lm, tmp_path / "weights")).train()
    ids = torch.tensor([[5, 6, 7]])
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    kinds = [type(module) for module in own.modules()]
    logits = own(input_ids=ids).logits
    wrapped = LanguageModel.wrap(own, lm.tokenizer)
    state = edit(wrapped, [REQUEST], "rome", layers=[1], steps=3, mom2_adjustment=False)
    export(wrapped, state, tmp_path / "model", "model")
    assert score(wrapped, [Query(REQUEST.text, "Rome")], state) > score(
        wrapped, [Query(REQUEST.text, "Rome")]
    )
    assert own.training
    assert all(parameter.requires_grad for parameter in own.parameters())
    assert [type(module) for module in own.modules()] == kinds
    assert own.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())
    assert torch.equal(own(input_ids=ids).logits, logits)
    assert {p.data_ptr() for p in own.parameters()} == {p.data_ptr() for p in wrapped.model.parameters()}


def test_an_edit_is_taken_back_by_asking_in_an_earlier_state(lm):
    query = [Query(REQUEST.text, "Rome")]
    before = score(lm, query)
    first = edit(lm, [REQUEST], "ft", layers=[1], steps=5)
    second = edit(lm, [EditRequest(TEMPLATES[1], NAMES[1], "Ulm")], "ft", first, layers=[1], steps=5)
    assert second[: len(first)] == first
    assert score(lm, query, first) > before
    assert score(lm, query) == before
    assert generate(lm, [REQUEST.text], n_tokens=4) == generate(lm, [REQUEST.text], (), n_tokens=4)


@pytest.mark.parametrize("settings", [{"previous_keys": True}, {"previous_keys": False}])
def test_a_method_remembers_its_earlier_edits(settings):
    lm = tiny("llama")
    given = {"layers": [0, 1], "steps": 4, **settings}
    artifacts = {"moments": moments(lm)}
    first, second = requests(2)
    before = edit(lm, [first], "memit", artifacts=artifacts, **given)
    found = edit(lm, [second], "memit", before, artifacts, **given)
    editor = make_editor("memit", settings_of("memit", given), lm, artifacts)
    one = editor.edit([[first]])
    two = editor.edit([[second]], one.delta, one.memory)
    for ours, wanted in zip(found, (*one.delta, *two.delta), strict=True):
        assert torch.equal(ours.U, wanted.U)
        assert torch.equal(ours.V, wanted.V)
    forgotten = edit(lm, [second], "memit", tuple(before), artifacts, **given)
    assert torch.equal(forgotten[-1].U, found[-1].U) is not settings["previous_keys"]
    assert edit(lm, [first], "ft", found, layers=[1], steps=1).memories == found.memories


def test_gradients_may_be_off_and_a_state_may_be_a_list(lm):
    with torch.no_grad():
        state = edit(lm, [REQUEST], "ft", layers=[1], steps=2)
    query = [Query(REQUEST.text, "Rome")]
    again = edit(lm, [REQUEST], "ft", list(state), layers=[1], steps=2)
    assert score(lm, query) < score(lm, query, list(state)) < score(lm, query, again)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("precision", "bfloat16"),
        ("target_ids", "x"),
        ("special_tokens", "token"),
        ("prompt_format", "chatty"),
    ],
)
def test_unknown_options_are_refused(lm, option, value):
    with pytest.raises(ValueError, match=rf"{option} '{value}' is unknown; "):
        LanguageModel.wrap(lm.model, lm.tokenizer, **{option: value})


def test_what_is_no_model_or_no_list_of_texts_is_refused(lm):
    adapted = get_peft_model(copy.deepcopy(lm.model), LoraConfig(target_modules=["down_proj"]))
    with pytest.raises(
        ValueError, match=r"is a PeftModel.*, not a model of transformers; .*merge_and_unload"
    ):
        LanguageModel.wrap(adapted, lm.tokenizer)
    with pytest.raises(ValueError, match="prompts are a list of texts; found the text 'The capital'"):
        generate(lm, "The capital")
    for method in ("ft", "rome"):
        with pytest.raises(ValueError, match="requests is empty"):
            edit(lm, [], method, layers=[1])


def test_what_is_missing_is_named(lm):
    with pytest.raises(ValueError, match="rome needs moments with these settings"):
        edit(lm, [REQUEST], "rome", layers=[1])
    with pytest.raises(ValueError, match="did you mean 'rome'"):
        edit(lm, [REQUEST], "rmoe")


def deeper(lm: LanguageModel) -> LanguageModel:
    """A random model like another one, with four layers."""
    config = copy.deepcopy(lm.model.config)
    config.num_hidden_layers = 4
    return LanguageModel(AutoModelForCausalLM.from_config(config), lm.tokenizer)


def test_the_example_of_the_readme_runs(lm, tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^    import aftershock\n(?:(?:    .*)?\n)+", text, flags=re.MULTILINE)
    lines = [line.removeprefix("    ") for line in code.splitlines()]
    (folder,) = re.findall(r'LanguageModel\.load\("(.+)"\)', code)
    monkeypatch.chdir(tmp_path)
    save(deeper(lm), tmp_path / folder)
    exec(compile("\n".join(lines), "README.md", "exec"), {})
    assert len([line for line in lines if line]) <= 20
    assert capsys.readouterr().out
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


# --- models of others ---------------------------------------------------------------------------------------
QUERIES = [Query(f"{name} was born in", city) for name, city in zip(NAMES, CITIES, strict=False)]
LONG = Query("It rains in the old town by the sea where Ada Vex was born in", "Oslo")


def test_a_padding_token_without_an_embedding_is_not_used():
    plain = tiny("llama")
    tokenizer = copy.deepcopy(plain.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<padding>"})
    assert tokenizer.pad_token_id == len(plain.model.get_input_embeddings().weight)
    lm = LanguageModel.wrap(plain.model, tokenizer)
    mixed = [*QUERIES, LONG]
    assert [s.logprob for s in scored(lm, mixed)] == [s.logprob for s in scored(plain, mixed)]
    prompts = [query.prompt for query in mixed]
    assert generate(lm, prompts, n_tokens=4) == generate(plain, prompts, n_tokens=4)


def test_edits_read_the_weights_that_a_wrapped_model_has_now():
    own = tiny("llama")
    lm = LanguageModel.wrap(own.model, own.tokenizer)
    make("rome", lm, steps=3).edit([requests(1)])
    with torch.no_grad():
        for name, weight in own.model.named_parameters():
            if "mlp" in name:
                weight.mul_(1.3)
    fresh = LanguageModel.wrap(own.model, own.tokenizer)
    found, wanted = (make("rome", each, steps=3).edit([requests(1)]).diagnostics[0] for each in (lm, fresh))
    for name in ("u", "delta"):
        assert torch.equal(found[name], wanted[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["ft", "rome", "grace"])
def test_edits_are_refused_in_half_precision(method, dtype):
    lm = tiny(dtype=dtype)
    narrow = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"the model is in {narrow}, .* dtype=torch.float32"):
        make_editor(method, settings_of(method, {"layers": [1]}), lm)


def test_a_stray_window_of_a_family_without_windows_is_not_applied():
    lm = tiny("llama")
    lm.model.config.sliding_window = 4
    several = [Query(LONG.prompt, city) for city in CITIES[:3]]
    for query, found in zip(several, scored(lm, several), strict=True):
        (ids,) = lm.encode([f"{query.prompt} {query.target}"])
        wanted = target_log_probs(lm, ids, len(found.token_logprobs))
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)


def longrope():
    lm = tiny("phi3")
    config = copy.deepcopy(lm.model.config)
    half = config.hidden_size // config.num_attention_heads // 2
    config.original_max_position_embeddings = 16
    config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 100.0,
        "original_max_position_embeddings": 16,
        "short_factor": [1.0] * half,
        "long_factor": [3.0] * half,
    }
    model = type(lm.model)(config).double()
    model.load_state_dict(lm.model.state_dict(), strict=False)
    return LanguageModel(model, lm.tokenizer)


def test_with_longrope_texts_are_as_long_as_the_positions_that_do_not_depend_on_their_batch():
    lm = longrope()
    assert context_of(lm.model.config) == lm.context == 16
    short = [Query("Ada was", city) for city in ("Oslo", "Ulm")]
    for query, found in zip(short, scored(lm, short), strict=True):
        (ids,) = lm.encode([f"{query.prompt} {query.target}"])
        wanted = target_log_probs(lm, ids, len(found.token_logprobs))
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(ValueError, match="16"):
        scored(lm, [*short, LONG])


def test_hidden_states_are_read_whatever_a_configuration_returns():
    lm = tiny("gpt2")
    lm.model.config.update({"return_dict": False})
    assert len(scored(lm, QUERIES[:2])) == 2
    assert edit(lm, requests(1), "ft", layers=[1], steps=1)
