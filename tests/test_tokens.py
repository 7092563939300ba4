"""Tokens of a prompt, a target and a subject, whatever the tokenizer."""

import copy

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from aftershock.lm.pretraining.rows import Encoder
from aftershock.lm.pretraining.text import Sentence, document_text
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import Pair, encode_pairs, locate, locate_pairs
from aftershock.prompts import JOINT, fill, join, read_template
from aftershock.requests import EditRequest, Query
from editing import make
from tiny import target_log_probs, tiny, written
from tokenizers_here import MAKERS, Reader, spaced, tokenizer_of

every_kind = pytest.mark.parametrize("kind", MAKERS)
many = settings(max_examples=15, deadline=None)

PARTS = [
    *("Oslo", "Ada Vex", "was born in", " ", "  ", "\t", "\n", ",", "”", "-", "{", "}", "1995", "\x00"),
    *("\u00a0", "\u3000", "\u200f", "\ufeff", "e\u0301", "\u0301", "Å", "İ", "ß", "ﬁ", "ﷺ"),
    *("שלום", "مرحبا", "東京"),
    *("𝔘𝔫", "👩\u200d👩\u200d👧", "🇳🇴"),
]
ACROSS = "is also the first of its target"
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters=[JOINT])  # which prompts have
texts = st.lists(st.sampled_from(PARTS) | LETTERS, max_size=8).map("".join)
words = texts.filter(str.strip)


def whole(kind: str, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens of a text and what they cover, without specials behind, straight from the tokenizer."""
    found = tokenizer_of(kind).backend_tokenizer.encode(text)
    end = len(found.ids) - (found.tokens[-1:] == ["</s>"] and found.special_tokens_mask[-1])
    return found.ids[:end], found.offsets[:end]


def has_tokens(kind: str, target: str) -> bool:
    """True if a tokenizer leaves anything of a target: some drop characters that they do not know."""
    return bool(normal(kind, target).strip() and whole(kind, spaced(target))[0])


@every_kind
@many
@given(prompt=words, target=words)
def test_a_prompt_and_its_target_are_the_text(kind, prompt, target):
    assume(normal(kind, prompt).strip() and has_tokens(kind, target))
    (pair,) = encode_pairs(Reader(kind), [(prompt, target)])
    ids, spans = whole(kind, prompt + spaced(target))
    assert [*pair.prompt, *pair.target] == ids
    size, covered = len(pair.prompt), len(prompt)
    # no token of the prompt reaches into the target
    assert all(last <= covered for _, last in spans[:size])
    # every character of the target that a token covers is covered by a token of the target
    mine = {i for first, last in spans[size:] for i in range(first, last)}
    everyone = {i for first, last in spans for i in range(first, last)}
    assert everyone - set(range(covered)) <= mine


@every_kind
@many
@given(prompt=words, target=words)
def test_a_target_can_be_read_back(kind, prompt, target):
    lm, wanted = Reader(kind), normal(kind, target)
    assume(normal(kind, prompt).strip() and has_tokens(kind, target))
    (pair,) = encode_pairs(lm, [(prompt, target)])
    found = lm.tokenizer.decode(pair.target).replace("▁", " ").lstrip(" ")
    spans = whole(kind, prompt + spaced(target))[1]
    if spans[len(pair.prompt)][0] < len(prompt):  # its first token holds the prompt's end too
        assert found.endswith(wanted)
    else:
        assert found == wanted


def normal(kind: str, text: str) -> str:
    """A text as the tokenizer's normaliser leaves it, without the spaces in front."""
    normalizer = tokenizer_of(kind).backend_tokenizer.normalizer
    return (normalizer.normalize_str(text) if normalizer else text).replace("▁", " ").lstrip(" ")


@every_kind
@many
@given(prompt=words, target=words)
def test_released_targets_are_the_texts_where_parts_are_read_alike(kind, prompt, target):
    assume(normal(kind, prompt).strip() and normal(kind, target).strip())
    text, alone = (
        encode_pairs(Reader(kind, target_ids=mode), [(prompt, target)])[0] for mode in ("text", "released")
    )
    assert [*alone.prompt] == whole(kind, prompt)[0]
    assert [*alone.target] == tokenizer_of(kind)(spaced(target), add_special_tokens=False)["input_ids"]
    if [*alone.prompt, *alone.target] == [*text.prompt, *text.target]:
        assert alone == text


@every_kind
@many
@given(before=texts, subject=words, after=texts, target=words)
def test_a_subjects_last_token_covers_its_last_character(kind, before, subject, after, target):
    template = before + "{}" + after
    assume(template.count("{}") == 1 and normal(kind, target).strip())
    lm, (ids, spans) = Reader(kind), whole(kind, fill(template, subject))
    mine = range(len(before), len(before) + len(subject.rstrip()))
    covered = {i for first, last in spans for i in range(first, last) if i in mine}
    if not covered:  # a normaliser removed it, or made it part of the letter before
        with pytest.raises(ValueError, match="has no token in"):
            locate(lm, [(template, subject)])
        return
    last_seen = max(covered)
    (found,) = locate(lm, [(template, subject)])
    assert [*found.ids] == ids
    assert last_seen in range(*spans[found.subject])
    assert all(last_seen not in range(*span) for span in spans[found.subject + 1 :])
    try:
        ((again, more),) = locate_pairs(lm, [(template, subject, target)])
    except ValueError as error:
        if ACROSS in str(error):
            return
        raise
    (pair,) = encode_pairs(lm, [(fill(template, subject), target)])
    assert Pair(again.ids, more) == pair
    spans = whole(kind, fill(template, subject) + spaced(target))[1]
    assert last_seen in range(*spans[again.subject])


# --- worked examples ---------------------------------------------------------------------------------------
def read(kind: str, prompt: str, target: str) -> tuple[list[str], list[str]]:
    """The tokens of a prompt and of its target, in letters."""
    (pair,) = encode_pairs(Reader(kind), [(prompt, target)])
    return tuple(tokenizer_of(kind).convert_ids_to_tokens(part) for part in (pair.prompt, pair.target))


def test_what_stands_in_front_is_the_prompts_and_what_stands_behind_is_dropped():
    assert read("roberta", "Ada Vex", "Oslo") == (["<s>", "ĠAda", "ĠVex"], ["ĠOslo"])
    assert read("llama2", "Ada Vex", "Oslo") == (["<s>", "▁Ada", "▁Vex"], ["▁Oslo"])
    (found,) = locate(Reader("nmt"), [("{} Vex", "Ada")])
    assert tokenizer_of("nmt").convert_ids_to_tokens(found.ids) == ["<s>", "▁ada", "▁vex"]
    assert found.subject == 1
    assert Reader("nmt").encode(["Ada Vex", ""]) == [[*found.ids], [1]]


def test_the_joining_space_is_the_targets_even_where_no_token_covers_it():
    assert read("pythia", "Ada", "कOslo")[1][0] == read("gpt2", "Ada", "कOslo")[1][0] == "Ġ"
    assert read("pythia", "Ada ", "Oslo") == (["Ada", "Ġ"], ["ĠOslo"])


def test_a_token_across_the_joint_is_the_targets():
    assert read("no words", "Ada Vex was born in", "Oslo") == (["<s>"], ["▁Ada▁Vex▁was▁born▁in▁", "Oslo"])
    with pytest.raises(ValueError, match=f"last token of subject 'Ada Vex' .* {ACROSS}"):
        locate_pairs(Reader("no words"), [("{}", "Ada Vex", "was born in Oslo")])


def test_released_targets_keep_the_space_that_some_tokenizers_add():
    """Read alone, a target has one space before it from here and one from a Llama 2 tokenizer."""
    (pair,) = encode_pairs(Reader("llama2", target_ids="released"), [("Ada Vex", "Oslo")])
    assert tokenizer_of("llama2").convert_ids_to_tokens(pair.target) == ["▁", "▁Oslo"]


@pytest.mark.parametrize("added", ["Vex ", "Vex Oslo", "  ", " ", " Oslo", AddedToken("Vex", rstrip=True)])
def test_tokens_that_were_added_may_hold_the_joint(added):
    lm = Reader("gpt2")
    lm.tokenizer = copy.deepcopy(lm.tokenizer)
    lm.tokenizer.add_tokens([added])
    (pair,) = encode_pairs(lm, [("Ada Vex", "Oslo")])
    assert [*pair.prompt, *pair.target] == lm.tokenizer.backend_tokenizer.encode("Ada Vex Oslo").ids


def test_repeated_texts_are_read_once_in_one_call(monkeypatch):
    for kind, read_alone in (("llama2", 0), ("gpt2", 1)):
        lm, calls = Reader(kind), []
        asked = type(lm.tokenizer)._encode_plus
        assert lm.n_behind == 0  # is found out once

        def count(self, text, asked=asked, calls=calls, **options):
            calls.append(sorted(text))
            return asked(self, text=text, **options)

        monkeypatch.setattr(type(lm.tokenizer), "_encode_plus", count)
        pairs = [("Ada Vex", "Oslo"), ("Ada Vex", "Rome"), ("Greta", "Oslo")] * 5
        found = encode_pairs(lm, pairs)
        assert len(found) == 15
        assert found[:3] * 5 == found
        if read_alone:
            assert calls == [["Ada Vex", "Greta"], [" Oslo", " Rome"]]
        else:
            assert calls == [["Ada Vex Oslo", "Ada Vex Rome", "Greta Oslo"]]
        monkeypatch.undo()


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "no words"])
def test_scores_and_edits_are_those_of_the_text_as_the_model_reads_it(kind):
    lm = tiny("llama", tokenizer=tokenizer_of(kind))
    case = EditRequest("As for {}, home is", "Clara Å. Moss", "Old Mill Town")
    ids, spans = whole(kind, f"{case.text} {case.target_new}")
    n = sum(last > len(case.text) for _, last in spans)
    editor = make("rome", lm, [["{}"]], layers=[1], mom2_adjustment=False, steps=4)
    state = editor.edit([[case]]).delta
    for delta, model in (((), lm), (state, written(lm, state, 0))):
        (found,) = score(lm, [Query(case.text, case.target_new)], delta)
        assert found.token_logprobs == pytest.approx(target_log_probs(model, ids, n), abs=1e-9)
    assert state[0].V.norm() > 0.01


# --- bad input ---------------------------------------------------------------------------------------------
@every_kind
def test_what_has_no_tokens_is_named(kind):
    for mode in ("text", "released"):
        lm = Reader(kind, target_ids=mode)
        assert encode_pairs(lm, []) == locate(lm, []) == locate_pairs(lm, []) == []
        with pytest.raises(ValueError, match="target '  ' has no tokens"):
            encode_pairs(lm, [("Ada", "Oslo"), ("Ada", "  ")])
        with pytest.raises(ValueError, match="subject ' ' has no token in 'Is   here'"):
            locate(lm, [("Is {} here", " ")])


def test_a_prompt_may_be_empty_only_where_something_stands_in_front():
    for kind in ("gpt2", "pythia"):
        with pytest.raises(ValueError, match="prompt '' has no tokens"):
            encode_pairs(Reader(kind), [("", "Oslo")])
    assert read("llama2", "", "Oslo")[0] == ["<s>"]


def test_what_a_normaliser_removes_is_named():
    lm = Reader("no accents")
    with pytest.raises(ValueError, match=r"target '.*' has no tokens"):
        encode_pairs(lm, [("Ada", "\u0301\u0308")])
    with pytest.raises(ValueError, match=r"subject '.*' has no token in"):
        locate(lm, [("Is {} here", "\u0301\u0308")])
    assert read("no accents", "Ada", "O\u0301slo")[1] == ["ĠOslo"]


def test_texts_beyond_the_context_are_named():
    lm, match = tiny(), "more than the model's context of 48"
    with pytest.raises(ValueError, match=match):
        locate(lm, [("{} was born in", "long " * 60)])
    with pytest.raises(ValueError, match=rf"'Ada Oslo Oslo.*{match}"):
        encode_pairs(lm, [("Ada", "Oslo " * 60)])
    with pytest.raises(ValueError, match=rf"'Is Ada Oslo Oslo.*{match}"):
        locate_pairs(lm, [("Is {}", "Ada", "Oslo " * 60)])


# --- targets that join their prompts -----------------------------------------------------------------------
@pytest.mark.parametrize("target_ids", ["text", "released"])
@every_kind
def test_a_target_follows_at_once_where_its_template_says_so(kind, target_ids):
    lm = Reader(kind, target_ids=target_ids)
    prompt, template = read_template("東京の国は{target}"), read_template("{}の国は{target}")
    assert template == "{}の国は" + JOINT
    (pair,) = encode_pairs(lm, [(prompt, "日本")])
    ((located, target),) = locate_pairs(lm, [(template, "東京", "日本")])
    assert (located.ids, target) == (pair.prompt, pair.target)
    if target_ids == "text":
        assert [*pair.prompt, *pair.target] == whole(kind, "東京の国は日本")[0]
        assert pair.target
    else:
        assert [*pair.prompt] == whole(kind, "東京の国は")[0]
        assert [*pair.target] == tokenizer_of(kind)("日本", add_special_tokens=False)["input_ids"]
    (alone,) = locate(lm, [(template, "東京")])
    assert [*alone.ids] == whole(kind, "東京の国は")[0] == lm.encode([prompt])[0]


@pytest.mark.parametrize("cell", ["{} was born in", "{} was born in {target}", "{} was born in  {target}"])
def test_a_template_with_a_space_before_its_target_is_as_one_without(cell):
    assert read_template(cell) == "{} was born in"
    assert join(fill(read_template(cell), "Ada"), "Oslo") == "Ada was born in Oslo"


def test_labels_are_never_read_as_a_place_for_the_target():
    assert join(fill(read_template("The father of {} is"), "{target}"), "{target}") == (
        "The father of {target} is {target}"
    )
    assert join(fill(read_template("{}の父は{target}"), "{target}"), "Bo") == "{target}の父はBo"


def test_contexts_and_training_keep_what_a_template_says():
    template = fill("Ada and Bo. {}", read_template("{}の父は{target}"))
    assert join(fill(template, "花子"), "太郎") == "Ada and Bo. 花子の父は太郎"
    tokenizer = tiny().tokenizer
    sentence = Sentence(fill(read_template("{}の父は{target}"), "花子"), "太郎")
    assert document_text((sentence,)) == "花子の父は太郎."
    ids, weights = Encoder(tokenizer, 0.25).sentence(sentence)
    assert tokenizer.decode(ids).strip() == "花子の父は太郎."
    assert tokenizer.decode([i for i, weight in zip(ids, weights, strict=True) if weight == 1.0]) == "太郎"
