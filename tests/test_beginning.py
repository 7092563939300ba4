"""The beginning of every text, in prompts, documents and edits, and texts that spell special tokens."""

import copy
import re

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from aftershock.editors.contexts import sample_contexts
from aftershock.editors.ft.edit import released_targets
from aftershock.editors.methods import settings_of
from aftershock.lm.generation import continue_greedily
from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.rows import Encoder
from aftershock.lm.pretraining.text import Sentence
from aftershock.lm.scoring import score
from aftershock.lm.statistics.moments import second_moments
from aftershock.lm.statistics.sinks import describe_beginning, first_token
from aftershock.lm.texts.special_tokens import spelled_remark, spelled_tokens
from aftershock.lm.texts.tokens import encode_pairs, locate, locate_pairs
from aftershock.page.beginnings import SINK, sink_remark, told
from aftershock.requests import EditRequest, Query
from editing import STRONG, assert_written, built
from tiers import of_families, once_each
from tiny import FAMILIES, NAMES, TEXTS, in_turn, likeliest, save, target_log_probs, tiny, written
from tokenizers_here import MAKERS, Reader, tokenizer_of

every_kind = pytest.mark.parametrize("kind", MAKERS)
every_family = pytest.mark.parametrize("family", of_families(FAMILIES))
OWN = {"roberta": "<s>", "llama3": "<s>", "metaspace": "<s>", "nmt": "<s>", "llama2": "<s>", "gemma": "<s>"}
OWN |= {"no words": "<s>"}
"""The token that each of these puts in front by itself; the other tokenizers put none there."""


def reader(kind: str, document_token: str = "auto", target_ids: str = "text") -> Reader:
    return Reader(kind, document_token=document_token, target_ids=target_ids)


def begun(lm: LanguageModel, document_token: str, target_ids: str = "text") -> LanguageModel:
    """The same model, whose texts begin otherwise."""
    return LanguageModel(lm.model, lm.tokenizer, target_ids, document_token=document_token)


# --- tokens ------------------------------------------------------------------------------------------------
@every_kind
@pytest.mark.parametrize("target_ids", ["text", "released"])
@pytest.mark.parametrize("document_token", ["auto", "none", "bos", "eos", "<unk>"])
def test_a_text_begins_with_one_token_and_is_otherwise_the_same(kind, target_ids, document_token):
    lm, raw = reader(kind, document_token, target_ids), tokenizer_of(kind).backend_tokenizer
    front = {"auto": OWN.get(kind), "none": None, "bos": "<s>", "eos": "</s>"}.get(document_token, "<unk>")
    front = [] if front is None else [raw.token_to_id(front)]
    assert [*lm.leading] == front
    for text in ("Ada Vex was born in", "Ada", ""):
        assert lm.encode([text]) == [[*front, *raw.encode(text, add_special_tokens=False).ids]]
    ((ids, spans),) = lm.read(["Ada Vex"])
    alone = raw.encode("Ada Vex", add_special_tokens=False)
    assert (ids, spans) == ([*front, *alone.ids], [(0, 0)] * len(front) + alone.offsets)
    if kind == "no words":  # which reads whole texts as a few tokens: no subject has one of its own
        return
    before = reader(kind, "none", target_ids)
    for asked in (("{} was born in", "Ada Vex", "Oslo"), ("As for {}, home is", "Dario", "Rome")):
        ((located, target),), ((bare, same),) = locate_pairs(lm, [asked]), locate_pairs(before, [asked])
        assert (located.ids, target) == ((*front, *bare.ids), same)
        assert located.subject == bare.subject + len(front)
        (found,), (without,) = locate(lm, [asked[:2]]), locate(before, [asked[:2]])
        assert found.subject == without.subject + len(front)
        (pair,) = encode_pairs(lm, [(asked[0].replace("{}", asked[1]), asked[2])])
        assert (pair.prompt, pair.target) == (located.ids, target)


def test_released_targets_stay_what_the_tokenizer_makes_of_them():
    case = [EditRequest("{} was born in", "Ada Vex", "Oslo")]
    for kind in ("llama2", "gpt2"):
        wanted = [released_targets(reader(kind, "auto", "released"), case)]
        for document_token in ("none", "eos"):
            assert [released_targets(reader(kind, document_token, "released"), case)] == wanted


def test_an_unknown_token_is_named_with_those_there_are(tmp_path):
    lm = tiny(dtype=torch.float32)
    folder = tmp_path / "models" / "mine" / "weights"
    save(lm, folder)
    assert LanguageModel.load(folder, document_token="bos").leading == (0,)
    message = (
        "resources/models/mine.yaml: document_token: <s> names no special token of this tokenizer, which has "
        "'<|endoftext|>' (bos, eos); take one of these, or none, or auto"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LanguageModel.load(folder, document_token="<s>")
    lm = LanguageModel(lm.model, copy.deepcopy(lm.tokenizer))  # that of all tiny models is one
    lm.tokenizer.bos_token = None
    with pytest.raises(ValueError, match="document_token: bos names no special token"):
        begun(lm, "bos")


# --- what models compute -----------------------------------------------------------------------------------
@every_family
def test_scores_continuations_and_moments_are_those_of_ids_with_the_token_in_front(family):
    plain = tiny(family)
    lm = begun(plain, "eos")
    queries = [Query("Ada Vex was born in", "Old Mill Town"), Query("Greta", "Oslo")]
    for found, query in zip(score(lm, queries), queries, strict=True):
        ids = [0, *lm.tokenizer(f"{query.prompt} {query.target}")["input_ids"]]
        n = len(ids) - 1 - len(lm.tokenizer(query.prompt)["input_ids"])
        assert found.token_logprobs == pytest.approx(target_log_probs(lm, ids, n), abs=1e-9)
    assert score(plain, queries)[1].logprob != pytest.approx(score(lm, queries)[1].logprob, abs=1e-3)

    said = likeliest(lm, [0, *lm.tokenizer("Greta")["input_ids"]], 4, [0])
    assert continue_greedily(lm, ["Greta"], 4) == [lm.tokenizer.decode(said)]

    keys = []
    for text in TEXTS[:3]:
        row = torch.tensor([[0, *lm.tokenizer(text)["input_ids"]]])
        with torch.no_grad(), record_activations(lm, inputs=[lm.projection(1)]) as seen:
            lm.model(input_ids=row)
        keys.append(seen["in", lm.projection(1)][0])
    k = torch.cat(keys)
    found = second_moments(lm, TEXTS[:3], [1])[1]
    assert found.count == len(k)
    assert torch.allclose(found.matrix, (k.T @ k / len(k)).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("method", "family"), once_each(in_turn(STRONG)))
def test_a_subject_of_one_token_that_opens_a_text_is_edited_behind_the_token(method, family):
    lm = begun(tiny(family), "bos")
    request = EditRequest("{} of", " in", "Oslo")  # a word of the tokenizer's
    (row,) = locate(lm, [(request.prompt, request.subject)])
    assert row.subject == 1
    assert row.ids[0] == lm.tokenizer.bos_token_id
    result = built(method, lm, settings_of(method, STRONG[method]), [["{}"]]).edit([[request]])
    (old,), (new,) = (score(lm, [Query(request.text, "Oslo")], state) for state in ((), result.delta))
    model = written(lm, result.delta, 0)
    ids = [0, *lm.tokenizer(f"{request.text} Oslo")["input_ids"]]
    n = len(encode_pairs(lm, [(request.text, "Oslo")])[0].target)
    assert new.token_logprobs == pytest.approx(target_log_probs(model, ids, n), abs=1e-9)
    if method == "ft":
        assert new.logprob > old.logprob + 0.5
    else:
        assert_written(method, lm, model, request, result.diagnostics[0])


def test_contexts_start_from_the_token_in_front():
    plain = tiny()
    seen = []

    def texts_of(lm, openings):
        original = lm.run
        lm.run = lambda ids, *rest, **more: (seen.append(ids[0].tolist()), original(ids, *rest, **more))[1]
        sample_contexts(lm, openings, [(4, 1)], seed=0)
        first, seen[:] = seen[0], []
        return first

    opening = plain.tokenizer("The")["input_ids"]
    assert texts_of(begun(plain, "auto"), []) == texts_of(begun(plain, "none"), []) == [0]
    assert texts_of(begun(plain, "bos"), []) == [0]
    assert texts_of(begun(plain, "bos"), ["The"]) == [0, *opening]
    assert texts_of(begun(plain, "none"), ["The"]) == opening
    lm = tiny("llama", tokenizer=tokenizer_of("gpt2"))
    assert texts_of(begun(lm, "auto"), []) == [lm.tokenizer.eos_token_id]
    assert texts_of(begun(lm, "bos"), []) == [lm.tokenizer.bos_token_id]


# --- attention sinks ---------------------------------------------------------------------------------------
def test_a_sink_is_measured_at_a_prompts_first_token_and_told():
    lm = tiny("gpt2")
    assert first_token(lm, NAMES) < 2
    with torch.no_grad():
        lm.model.transformer.wpe.weight[0] *= 200 / lm.model.transformer.wpe.weight[0].norm()
    norms = []
    for name in NAMES:
        ids = torch.tensor(lm.encode([f"{name} is a"]))
        with torch.no_grad():
            states = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[1:-1]
        norms.append([state[0].norm(dim=-1) for state in states])
    layers = range(lm.n_layers - 1)  # transformers gives the last one after the final norm
    ratios = [
        torch.stack([of[i][0] for of in norms]).median() / torch.cat([of[i][1:] for of in norms]).median()
        for i in layers
    ]
    ratio = (found := describe_beginning(lm, NAMES))["first_token"]
    assert ratio >= float(f"{max(ratios):.2g}") > SINK
    assert found == {"document_token": "auto", "begins_with": [], "template": None, "first_token": ratio}
    assert "is an attention sink: " in sink_remark(found)
    assert "(nothing in front, document_token: auto)" in sink_remark(found)

    behind = describe_beginning(begun(lm, "bos"), NAMES)
    assert behind["first_token"] < 2
    assert sink_remark(behind) is None
    assert told(behind).startswith(
        "What the model reads has <|endoftext|> in front, document_token: bos. The stream at a prompt's"
    )


def test_without_texts_nothing_is_measured():
    lm = tiny()
    for subjects in ([], ["long " * 60]):
        found = describe_beginning(lm, subjects)
        assert found["first_token"] is None
        assert sink_remark(found) is None
        assert told(found) == "What the model reads has nothing in front, document_token: auto."


# --- special tokens in texts --------------------------------------------------------------------------------
SPECIAL = ("<s>", "</s>", "<unk>")


def characters(lm: LanguageModel, ids) -> str:
    return "".join(lm.tokenizer.convert_ids_to_tokens(list(ids))).replace("Ġ", "").replace("▁", "")


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "no words"])
@pytest.mark.parametrize("target_ids", ["text", "released"])
@pytest.mark.parametrize("label", SPECIAL)
def test_a_label_that_spells_a_token_is_its_characters_or_the_token(kind, target_ids, label):
    lm = Reader(kind, special_tokens="characters", target_ids=target_ids)
    token = lm.tokenizer.convert_tokens_to_ids(label)
    (pair,) = encode_pairs(lm, [("The HTML tag is", label)])
    ((prompt, target),) = locate_pairs(lm, [("The tag {} is", label, label)])
    (found,) = locate(lm, [("The tag {} is", label)])
    for ids in (pair.target, target, found.ids[1:], prompt.ids[1:], lm.encode([f"a {label} b"])[0][1:]):
        assert token not in ids
    if kind not in ("nmt", "metaspace"):  # whose byte tokens are spelled <0x3C>
        read = characters(lm, pair.target)
        assert read == label or "<0x3C>" in read
    as_tokens = Reader(kind, special_tokens="tokens", target_ids=target_ids)
    (pair,) = encode_pairs(as_tokens, [("The HTML tag is", label)])
    assert token in pair.target
    assert token in as_tokens.encode([f"a {label} b"])[0][1:]


@pytest.mark.parametrize("kind", ["roberta", "llama2", "nmt", "gpt2"])
def test_what_stands_around_every_text_stays(kind):
    lm, raw = Reader(kind, special_tokens="characters"), tokenizer_of(kind).backend_tokenizer
    for text in ("Ada Vex", "a"):
        raw.encode_special_tokens = False
        wanted = raw.encode(text).ids
        assert lm.encode([text]) == [wanted[: len(wanted) - lm.n_behind]]


def test_training_text_has_no_end_inside_a_sentence():
    tokenizer = tiny().tokenizer
    end = tokenizer.eos_token
    ids, _ = Encoder(tokenizer, 0.2).sentence(Sentence(f"As for {end}, home is", end))
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).strip() == f"As for {end}, home is {end}."


def test_texts_are_counted_by_the_token_they_spell():
    lm = tiny()
    texts = ["<|endoftext|>", "a <|endoftext|> b<|endoftext|>", "</s>", "plain", "<|endoftext |>"]
    assert spelled_tokens(lm, texts) == {"<|endoftext|>": 2}
    assert spelled_remark(lm, ["plain"], "labels") is None
    said = spelled_remark(lm, [*texts, *texts], "labels")
    assert said == (
        "of 5 labels, some spell special tokens of the model ('<|endoftext|>' in 2); they are read as their "
        "characters (engine.special_tokens: characters)"
    )
    lm = LanguageModel(lm.model, lm.tokenizer, special_tokens="tokens")
    said = spelled_remark(lm, texts, "documents")
    assert "as the tokens themselves (engine.special_tokens: tokens)" in said


def test_the_longest_of_several_tokens_is_the_one_spelled():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=MAKERS["gpt2"](), eos_token="<s></s>")
    lm = Reader(tokenizer, special_tokens="characters")
    assert spelled_tokens(lm, ["<s></s>", "<s>"]) == {"<s></s>": 1, "<s>": 1}
