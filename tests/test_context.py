"""Facts in front of prompts: what a model reads, in which order, where there is little room, and instead."""

import logging

import pandas as pd
import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.statements import draw_others, state_fact
from aftershock.experiments.queries import load_first_edits
from aftershock.lm.edits import random_like, rewrite_prompts
from aftershock.lm.edits.context import UNRELATED, pack_texts, unpack_texts
from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import JOINT, fill
from aftershock.requests import EditRequest, Query
from aftershock.tables.cases import EDITS
from chat_templates import STYLES, chat_tokenizer, rendered
from editing import say
from taught import edits, known, taught
from test_protocol import tables
from tiny import CITIES, NAMES, TEMPLATES, requests, tiny

ADA, OTHER = EditRequest(TEMPLATES[0], "Ada Vex", "Oslo"), EditRequest(TEMPLATES[1], "Bruno Quill", "Rome")
FIRST, SECOND = "Ada Vex was born in Oslo.", "The city where Bruno Quill was born is Rome."
PROMPTS = [fill(template, name) for template in TEMPLATES for name in NAMES[:3]]


def in_context(lm, others=(), **settings):
    """The editor with settings of its own."""
    made = settings_of("in_context", {"reserve": 12}, settings)
    return method_of("in_context").make(lm, made, {"other_edits": others})


def two_edits(lm, **settings):
    """The state after two edits of one case, and the editor."""
    editor = in_context(lm, **settings)
    first = editor.edit([[ADA]]).delta
    return first + editor.edit([[OTHER]], first).delta


# --- what a model reads ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "before"),
    [
        ({}, f"{FIRST} {SECOND} "),
        ({"order": "newest_first"}, f"{SECOND} {FIRST} "),
        ({"separator": "\n"}, f"{FIRST}\n{SECOND}\n"),
        (
            {"statement": "New fact: {fact}!"},
            "New fact: Ada Vex was born in Oslo! New fact: The city where Bruno Quill was born is Rome! ",
        ),
    ],
)
def test_a_prompt_is_scored_and_continued_behind_the_facts(settings, before):
    lm = taught()
    state = two_edits(lm, **settings)
    plain = [Query(before + prompt, city) for prompt in PROMPTS for city in CITIES[:2]]
    asked = [Query(prompt, city) for prompt in PROMPTS for city in CITIES[:2]]
    assert say(lm, asked, state) == say(lm, plain)
    wanted = continue_greedily(lm, [before + prompt for prompt in PROMPTS], 4)
    assert continue_greedily(lm, PROMPTS, 4, state) == wanted


def test_a_model_that_reads_its_context_takes_facts_over():
    lm = taught()
    cases = edits(6)
    state = in_context(lm).edit([[r] for r in cases]).delta
    asked = [Query(fill(t, r.subject), r.target_new, i) for i, r in enumerate(cases) for t in TEMPLATES]
    kept = [q for case in range(6) for q in known(case) if cases[case].subject not in q.prompt]
    before = sum(s.argmax_match for s in score(lm, asked))
    after = sum(s.argmax_match for s in score(lm, asked, state))
    assert before == 0
    assert after >= 0.7 * len(asked)
    assert sum(s.argmax_match for s in score(lm, kept, state)) >= 0.8 * len(kept)


def test_the_facts_of_one_edit_stand_in_its_order():
    lm = taught()
    several = [EditRequest(TEMPLATES[0], NAMES[4], city) for city in CITIES[:2]]
    state = in_context(lm).edit([several, [ADA]]).delta
    ask = "Where?"
    assert rewrite_prompts(lm, state, [ask] * 2, [0, 1]) == [
        f"{NAMES[4]} was born in {CITIES[0]}. {NAMES[4]} was born in {CITIES[1]}. {ask}",
        f"{FIRST} {ask}",
    ]


def test_a_target_that_joins_its_prompt_joins_it_in_a_statement():
    request = EditRequest(f"{{}}の首都は{JOINT}", "{fact} {}", "パリ")
    assert state_fact(request, "<{fact}>") == "<{fact} {}の首都はパリ>"


@pytest.mark.parametrize("style", STYLES)
def test_facts_stand_inside_the_message_of_a_chat(style):
    model = tiny("mistral", tokenizer=chat_tokenizer(style)).model
    model.config.max_position_embeddings = 200
    lm = LanguageModel(model, chat_tokenizer(style), prompt_format="chat")
    state = in_context(lm).edit([[ADA]]).delta
    read = rewrite_prompts(lm, state, ["Bo lives in"], [0])
    question = rendered(style, f"{FIRST} Bo lives in")
    assert lm.encode_prompts(read)[0] == lm.tokenizer(question, add_special_tokens=False)["input_ids"]


def test_facts_stand_behind_a_document_token():
    lm = taught()
    marked = LanguageModel(lm.model, lm.tokenizer, document_token="eos")
    state = in_context(marked).edit([[ADA]]).delta
    (pair,) = encode_pairs(marked, [(rewrite_prompts(marked, state, ["Bo lives in"], [0])[0], "Ulm")])
    end = lm.tokenizer.eos_token_id
    assert list(pair.prompt) == [end, *lm.encode([f"{FIRST} Bo lives in"])[0]]
    assert pair.prompt.count(end) == 1


# --- room --------------------------------------------------------------------------------------------------
def test_the_oldest_facts_give_way_where_there_is_little_room(monkeypatch, caplog):
    lm = taught()
    state = two_edits(lm)
    prompt = PROMPTS[4]
    sizes = [len(lm.encode([f"{front}{prompt}"])[0]) for front in (f"{FIRST} {SECOND} ", f"{SECOND} ", "")]
    for context, front in zip(sizes, (f"{FIRST} {SECOND} ", f"{SECOND} ", ""), strict=True):
        for room in (0, 1, 2):
            monkeypatch.setattr(lm, "context", context + 12 + room)
            with caplog.at_level(logging.WARNING):
                assert rewrite_prompts(lm, state, [prompt], [0]) == [front + prompt]
    assert "1 of 1 prompts are read without some statements" in caplog.text
    monkeypatch.setattr(lm, "context", 5)
    assert rewrite_prompts(lm, state, [prompt], [0]) == [prompt]  # which is then refused as any long prompt


def test_examples_give_way_before_facts(monkeypatch):
    lm = taught()
    state = in_context(lm, [OTHER], examples=1).edit([[ADA]]).delta
    whole = f"{SECOND} {SECOND} {FIRST} Where?"
    assert rewrite_prompts(lm, state, ["Where?"], [0]) == [whole]
    monkeypatch.setattr(lm, "context", len(lm.encode([whole])[0]) + 12 - 1)
    assert rewrite_prompts(lm, state, ["Where?"], [0]) == [f"{FIRST} Where?"]


def test_a_case_without_room_for_its_own_fact_fails_alone():
    lm = taught()
    long = EditRequest(TEMPLATES[0], "Ada Vex " * 60, "Oslo")
    wide = EditRequest(TEMPLATES[0], "Ada Vex", "Old Mill Town " * 12)
    result = in_context(lm).edit([[ADA], [long], [wide], [OTHER]])
    assert [reason is None for reason in result.reasons] == [True, False, False, True]
    assert "more than the model's context of 128" in result.reasons[1]
    assert "tokens, more than reserve, 12" in result.reasons[2]
    asked = [Query(prompt, "Oslo", case) for prompt in PROMPTS for case in (1, 2)]
    assert say(lm, asked, result.delta) == say(lm, asked)


# --- examples ----------------------------------------------------------------------------------------------
def test_examples_are_of_other_subjects_and_depend_on_the_seed_alone():
    others = requests(8)
    drawn = draw_others(others, [others[2], others[5]], 4, 3)
    assert len(drawn) == len(set(drawn)) == 4
    assert not {others[2].subject, others[5].subject} & {r.subject for r in drawn}
    assert len(draw_others(others, [others[2]], 20, 3)) == 7
    without = [r for r in draw_others(others, [], 8, 3) if r.subject != others[2].subject]
    assert draw_others(others, [others[2]], 8, 3) == without
    orders = {tuple(draw_others(others, [], 8, seed)) for seed in range(4)}
    assert len(orders) == 4


def test_first_edits_of_all_cases_are_read_from_their_table(tmp_path):
    rows, _ = tables(5)
    EDITS.write(rows, tmp_path / "edits.parquet")
    found = load_first_edits(tmp_path / "edits.parquet", None, None, "")
    firsts = rows[rows["edit"] == "e1"].sort_values("case_id")
    assert [(r.subject, r.target_new) for r in found] == list(
        zip(firsts["subject"], firsts["target_new"], strict=True)
    )
    EDITS.write(pd.concat([rows, rows.assign(case_id=rows["case_id"] + 5)]), tmp_path / "twice.parquet")
    assert load_first_edits(tmp_path / "twice.parquet", None, None, "") == found


# --- as a change -------------------------------------------------------------------------------------------
def test_texts_come_back_from_tensors():
    rows = [["Åse {x}", "日本"], [], ["a"]]
    texts, sizes = pack_texts(rows)
    assert (texts.dtype, texts.shape[:2], sizes.tolist()) == (torch.uint8, (3, 2), [[8, 6], [0, 0], [1, 0]])
    assert unpack_texts(texts, sizes) == rows
    assert unpack_texts(*pack_texts([[], []])) == [[], []]


def test_a_random_change_is_as_many_unrelated_statements():
    lm = taught()
    editor = in_context(lm)
    state = editor.edit([[ADA], [ADA, OTHER], [OTHER]]).delta
    state = (state[0].without(torch.tensor([False, False, True])),)
    drawn = random_like(state, [7, 8, 9])
    assert [len(texts) for texts in drawn[0].statements] == [1, 2, 0]
    assert {text for texts in drawn[0].statements for text in texts} <= set(UNRELATED)
    assert len({str(random_like(state, [seed] * 3)[0].statements) for seed in range(9)}) > 5
    assert not any(label in text for text in UNRELATED for label in (*NAMES, *CITIES))
