"""Prompts in the chat template of a tokenizer: tokens, scores, edits, continuations, errors."""

import copy
import re
from pathlib import Path

import pytest
import torch

from aftershock.config.fetched import source_errors
from aftershock.config.models import _model, reading_of
from aftershock.editors.methods import settings_of
from aftershock.experiments.lengths import check_lengths
from aftershock.experiments.tracing import Fact, trace
from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.statistics.moments import second_moments
from aftershock.lm.statistics.sinks import describe_beginning
from aftershock.lm.texts.tokens import encode_pairs, locate, locate_pairs
from aftershock.page.beginnings import sink_remark, told
from aftershock.requests import EditRequest, Query
from chat_templates import CHATML, STYLES, chat_tokenizer, rendered
from configured import study
from editing import STRONG, built
from tiny import NAMES, TEXTS, likeliest, save, target_log_probs, tiny, written
from tokenizers_here import Reader

every_style = pytest.mark.parametrize("style", STYLES)
JOINTS = {"Mistral": " ", "Mistral with tokens": " "}
FAMILY = {"ChatML": "qwen2", "Llama 3": "llama", "Gemma": "gemma3_text"}
ASKED = [
    ("{} was born in", "Ada Vex", "Oslo"),
    ("As for {}, home is", "Clara Å. Moss", "Old Mill Town"),
    ("Is it true {}", "Dario", "Rome"),
]


def reader(style: str, **options: str) -> Reader:
    return Reader(chat_tokenizer(style), prompt_format="chat", **{"special_tokens": "characters"} | options)


def chatting(style: str, family: str = "", **options) -> LanguageModel:
    """A tiny model, by default of the style's family, with its tokenizer and template."""
    lm = tiny(family or FAMILY.get(style, "mistral"), tokenizer=chat_tokenizer(style))
    lm.model.config.max_position_embeddings = 200
    return LanguageModel(lm.model, lm.tokenizer, prompt_format="chat", **options)


def whole(style: str, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A text that already has all special tokens, straight from the tokenizer."""
    found = chat_tokenizer(style)(text, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], found["offset_mapping"]


def spoken(lm: LanguageModel, style: str, prompt: str, target: str) -> list[float]:
    """Log-probabilities of a target's tokens in the whole conversation."""
    question = rendered(style, prompt)
    ids, spans = whole(style, question + JOINTS.get(style, "") + target)
    return target_log_probs(lm, ids, sum(last > len(question) for _, last in spans))


# --- tokens ------------------------------------------------------------------------------------------------
@every_style
def test_a_prompt_with_its_target_is_the_conversation_as_transformers_writes_it(style):
    lm = reader(style)
    for template, subject, target in ASKED:
        prompt = template.replace("{}", subject)
        question = rendered(style, prompt)
        text = question + JOINTS.get(style, "") + target
        assert rendered(style, prompt, target).startswith(text)
        ids, spans = whole(style, text)
        (pair,) = encode_pairs(lm, [(prompt, target)])
        assert [*pair.prompt, *pair.target] == ids
        size = len(pair.prompt)
        assert spans[size - 1][1] <= len(question) < spans[size][1]
        ((located, more),) = locate_pairs(lm, [(template, subject, target)])
        assert (located.ids, more) == (pair.prompt, pair.target)
        (alone,) = locate(lm, [(template, subject)])
        assert [*alone.ids] == whole(style, question)[0] == lm.encode_prompts([prompt])[0]
        last = question.index(subject) + len(subject) - 1
        for at in (located.subject, alone.subject):
            assert last in range(*spans[at])
            assert all(last not in range(*span) for span in spans[at + 1 :])
        bos = lm.tokenizer.bos_token_id
        assert ids.count(bos) == ("bos_token" in STYLES[style][0])
        assert ids[0] == (bos if "bos_token" in STYLES[style][0] else ids[0])


@every_style
def test_a_text_before_a_prompt_is_part_of_the_message(style):
    ((located, target),) = locate_pairs(reader(style), [ASKED[0]], ["Bo. "])
    text = rendered(style, "Bo. Ada Vex was born in") + JOINTS.get(style, "") + "Oslo"
    assert [*located.ids, *target] == whole(style, text)[0]
    assert text.index("Vex") + 2 in range(*whole(style, text)[1][located.subject])


@every_style
def test_released_targets_are_read_alone_behind_the_template(style):
    (pair,) = encode_pairs(reader(style, target_ids="released"), [("Ada Vex was born in", "Oslo")])
    assert [*pair.prompt] == whole(style, rendered(style, "Ada Vex was born in"))[0]
    assert [*pair.target] == whole(style, JOINTS.get(style, "") + "Oslo")[0]


@every_style
@pytest.mark.parametrize("label", ["</s>", "<s> x", "a <unk>"])
def test_labels_that_spell_special_tokens_are_their_characters(style, label):
    lm, tokenizer = reader(style), chat_tokenizer(style)
    odd = {tokenizer.convert_tokens_to_ids(token) for token in ("</s>", "<s>", "<unk>")}
    wanted = sum(i in odd for i in encode_pairs(lm, [("The tag of Ada is", "Oslo")])[0].prompt)
    ((located, target),) = locate_pairs(lm, [("The tag of {} is", label, label)])
    assert sum(i in odd for i in (*located.ids, *target)) == wanted
    (alone,) = locate(lm, [("The tag of {} is", label)])
    assert alone == located
    ((ids, spans),) = lm.read_prompts([(f"The tag of {label} is", label)])
    text = rendered(style, f"The tag of {label} is") + JOINTS.get(style, "") + label
    assert ids == [*located.ids, *target]
    assert spans[located.subject][0] < text.index(f"{label} is") + len(label) <= spans[located.subject][1]
    as_tokens = encode_pairs(reader(style, special_tokens="tokens"), [(f"The tag of {label} is", label)])[0]
    assert [*as_tokens.prompt, *as_tokens.target] == whole(style, text)[0]


def test_documents_stand_in_no_template():
    for style in STYLES:
        lm, raw = reader(style), chat_tokenizer(style).backend_tokenizer
        assert lm.encode(["Ada Vex"]) == [raw.encode("Ada Vex").ids]
        lm.document_token = "eos"
        eos = lm.tokenizer.eos_token_id
        assert lm.encode(["Ada Vex"]) == [[eos, *raw.encode("Ada Vex", add_special_tokens=False).ids]]
        assert lm.encode_prompts(["Ada"]) == [whole(style, rendered(style, "Ada"))[0]]


def test_a_template_is_rendered_on_the_same_day_and_without_thoughts():
    tokenizer = copy.deepcopy(chat_tokenizer("ChatML"))
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}{{ date_string }}\n"
        + CHATML
        + "{% if enable_thinking is defined and not enable_thinking %}"
        "<think></think>\n{% endif %}"
    )
    lm = tiny("llama", tokenizer=tokenizer)
    frame = LanguageModel(lm.model, tokenizer, prompt_format="chat").frame
    assert frame.before.startswith("26 Jul 202426 Jul 2024\n")
    assert frame.after.endswith("<|im_start|>assistant\n<think></think>\n")


# --- what models compute -----------------------------------------------------------------------------------
@every_style
def test_scores_and_continuations_are_those_of_the_conversation(style):
    lm = chatting(style)
    queries = [Query(t.replace("{}", s), target) for t, s, target in ASKED for target in (target, "Graz")]
    for found, query in zip(score(lm, queries), queries, strict=True):
        wanted = spoken(lm, style, query.prompt, query.target)
        assert found.token_logprobs == pytest.approx(wanted, abs=1e-9)
    said = likeliest(lm, whole(style, rendered(style, "Ada Vex was born in"))[0], 5, lm.ends)
    assert continue_greedily(lm, ["Ada Vex was born in"], 5) == [lm.tokenizer.decode(said)]


def test_an_answer_ends_where_the_template_ends_a_turn():
    for style, closing in (("ChatML", "<|im_end|>"), ("Llama 3", "<|turn|>"), ("Gemma", "<end_of_turn>")):
        lm = chatting(style)
        assert lm.ends >= {lm.tokenizer.convert_tokens_to_ids(closing), lm.tokenizer.eos_token_id}
    lm = tiny("gpt2")
    assert lm.ends == {lm.tokenizer.eos_token_id}


@every_style
@pytest.mark.parametrize("method", STRONG)
def test_an_edit_in_a_conversation_is_scored_as_written_weights_say(method, style):
    # through a window of five tokens no answer sees a subject
    lm = chatting(style, FAMILY["Gemma"] if style == "Gemma" else "llama")
    request = EditRequest("As for {}, home is", "Dario", "Old Mill Town")
    editor = built(method, lm, settings_of(method, STRONG[method]), [["{}"], ["Bo said. {}"]])
    state = editor.edit([[request]]).delta
    (old,), (new,) = (score(lm, [Query(request.text, request.target_new)], some) for some in ((), state))
    wanted = spoken(written(lm, state, 0), style, request.text, request.target_new)
    assert new.token_logprobs == pytest.approx(wanted, abs=1e-9)
    assert new.logprob != pytest.approx(old.logprob, abs=1e-3)


def test_tracing_and_moments_work_in_a_template():
    lm = chatting("ChatML")
    found = trace(lm, [Fact(*ASKED[0])], samples=2)
    assert found.clean[0].item() == pytest.approx(
        torch.tensor(score(lm, [Query("Ada Vex was born in", "Oslo")])[0].token_logprobs).sum().exp().item()
    )
    plain = LanguageModel(lm.model, lm.tokenizer)
    mine, theirs = (second_moments(one, TEXTS[:2], [1])[1].matrix for one in (lm, plain))
    assert torch.equal(mine, theirs)


def test_the_report_names_the_template():
    found = describe_beginning(chatting("ChatML"), NAMES)
    assert found["template"] == rendered("ChatML", "{}")
    assert found["first_token"] < 3
    assert "in the tokenizer's chat template, '<|im_start|>system\\nYou help.<|im_end|>" in told(found)
    assert "prompt_format: plain" in sink_remark(found | {"first_token": 50.0})


# --- bad input ---------------------------------------------------------------------------------------------
def test_a_tokenizer_without_a_template_is_an_error_before_any_editing(tmp_path, monkeypatch):
    lm = tiny(dtype=torch.float32)
    folder = tmp_path / "results" / "models" / "mine" / "weights"
    save(lm, folder)
    message = (
        "^resources/models/mine.yaml: prompt_format: chat needs a chat template, and the tokenizer has none"
    )
    with pytest.raises(ValueError, match=message):
        LanguageModel.load(folder, prompt_format="chat")
    monkeypatch.chdir(tmp_path)
    for source in ({"hub": "a/b", "revision": "main"}, {"path": str(folder)}):
        model = {"source": source, "prompt_format": "chat"}
        (error,) = source_errors({}, {"mine": model}, Path())
        assert re.search(message, error)
    assert not list(source_errors({}, {"mine": {"source": {"path": str(folder)}}}, Path()))
    (folder / "chat_template.jinja").write_text(CHATML)
    assert not list(source_errors({}, {"mine": model}, Path()))
    assert LanguageModel.load(folder, prompt_format="chat").frame.after.endswith("assistant\n")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if messages | length < 2 %}{{ raise_exception('no answer') }}{% endif %}", "fails: no answer"),
        ("hello", "does not hold the user's message as it stands"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "does not hold the user's message"),
        ("{{ messages[0].content ", "the chat template fails"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(template, said):
    tokenizer = copy.deepcopy(chat_tokenizer("ChatML"))
    tokenizer.chat_template = template
    lm = tiny("llama", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=f"prompt_format: chat: .*{said}"):
        LanguageModel(lm.model, tokenizer, prompt_format="chat")


def test_texts_too_long_with_their_template_are_found():
    lm = chatting("ChatML")
    lm.context = 40
    (ids,) = lm.encode_prompts(["Ada " * 12])
    assert len(ids) > 40 > len(LanguageModel(lm.model, lm.tokenizer).encode(["Ada " * 12])[0])
    with pytest.raises(ValueError, match=f"Q1 makes {len(ids)} tokens"):
        check_lengths(lm, [("Q1", "Ada " * 12)])


# --- configuration -----------------------------------------------------------------------------------------
def test_a_model_whose_file_says_nothing_leaves_its_jobs_as_they_were():
    _, models = study()
    assert all(reading_of(model) == {} for model in models.values())
    said = {"document_token": "eos", "prompt_format": "chat", "source": {}}
    assert reading_of(said) == {"document_token": "eos", "prompt_format": "chat"}
    assert reading_of(said, ["document_token"]) == {"document_token": "eos"}
    assert reading_of({"document_token": "auto", "prompt_format": "plain"}) == {}


def test_a_model_trained_here_has_no_template():
    config, models = study()
    model = next(model for model in models.values() if "train" in model)
    assert not list(_model(model, config))
    (error,) = _model(model | {"prompt_format": "chat"}, config)
    assert error.startswith("prompt_format: a model that is trained here has no chat template")


@pytest.mark.parametrize("chat", [True, False])
def test_a_continuation_is_cut_at_the_first_token_that_ends_it(chat, monkeypatch):
    lm = chatting("ChatML") if chat else tiny()
    (ids,) = lm.encode_prompts(["Ada Vex was born in"])
    said = likeliest(lm, ids, 5)
    monkeypatch.setattr(LanguageModel, "ends", {said[3]})
    kept = lm.tokenizer.decode(said[: said.index(said[3])])
    assert continue_greedily(lm, ["Ada Vex was born in"], 5) == [kept]
