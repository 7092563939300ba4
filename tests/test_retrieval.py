"""Retrieval: the facts that a prompt gets, decided from the prompt alone, among those of other cases too."""

import math

import pytest
import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import random_like, rewrite_prompts
from aftershock.lm.edits.context import UNRELATED
from aftershock.lm.edits.index import Index
from aftershock.lm.generation import continue_greedily
from aftershock.lm.networks import text_match
from aftershock.prompts import fill
from aftershock.requests import EditRequest, Query
from configured import study
from editing import say
from taught import taught
from tiny import NAMES, TEMPLATES, requests, tiny

PROMPTS = [fill(template, name) for template in TEMPLATES for name in NAMES] + ["It rains", "Oslo is"]


def retrieval(lm, others=(), seed=0, **settings):
    """The editor with settings of its own."""
    made = settings_of("retrieval", {"reserve": 12}, settings)
    return method_of("retrieval").make(lm, made, {"other_edits": others, "sentence_encoder": "none"}, seed)


def slow_similarity(lm, key, prompt):
    """The mean over a key's tokens of the best cosine with a token of the prompt, number by number."""
    table = lm.model.get_input_embeddings().weight.tolist()
    middle = [math.fsum(column) / len(table) for column in zip(*table, strict=True)]

    def cosine(one, two):
        a, b = ([x - m for x, m in zip(table[t], middle, strict=True)] for t in (one, two))
        norms = math.sqrt(math.fsum(x * x for x in a)), math.sqrt(math.fsum(x * x for x in b))
        return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norms[0] / norms[1]

    def ids(text):
        return lm.tokenizer(text, add_special_tokens=False)["input_ids"]

    return max(
        math.fsum(max(cosine(t, u) for u in ids(prompt)) for t in ids(text)) / len(ids(text))
        for text in (key, f" {key}")
    )


@pytest.mark.parametrize(("nearest", "threshold"), [(1, 0.6), (2, 0.3), (3, -1.0), (2, 0.99)])
def test_a_prompt_gets_its_nearest_facts_above_the_threshold(nearest, threshold):
    lm = taught()
    facts = requests(6)
    state = retrieval(lm, nearest=nearest, threshold=threshold).edit([facts, facts[:1]]).delta
    read = rewrite_prompts(lm, state, PROMPTS, [0] * len(PROMPTS))
    got = set()
    for prompt, text in zip(PROMPTS, read, strict=True):
        similar = [(round(slow_similarity(lm, fact.subject, prompt), 6), i) for i, fact in enumerate(facts)]
        near = sorted(pair for pair in similar if pair[0] >= threshold)[-nearest:]
        front = "".join(f"{facts[i].text} {facts[i].target_new}. " for _, i in near)
        assert text == front + prompt
        got.add(len(near))
    assert nearest in got or threshold == 0.99


def test_a_prompt_like_no_fact_is_read_as_it_stands():
    lm = taught()
    state = retrieval(lm, threshold=1.0).edit([[request] for request in requests(2)]).delta
    asked = [Query(prompt, "Oslo", i) for i in range(2) for prompt in PROMPTS]
    own = {
        (prompt, i)
        for i, request in enumerate(requests(2))
        for prompt in PROMPTS
        if request.subject in prompt
    }
    both = zip(asked, say(lm, asked, state), say(lm, asked), strict=True)
    changed = [q for q, a, b in both if a != pytest.approx(b, abs=1e-9)]
    assert {(q.prompt, q.case) for q in changed} == own
    nothing = (state[0].without(torch.tensor([True, True])),)
    assert say(lm, asked, nothing) == say(lm, asked)


def test_of_equally_near_facts_the_newer_one_is_nearer():
    lm = taught()
    editor = retrieval(lm)
    old, new = (EditRequest(TEMPLATES[0], "Dario", city) for city in ("Rome", "Ulm"))
    first = editor.edit([[old]]).delta
    both = first + editor.edit([[new]], first).delta
    assert rewrite_prompts(lm, both, [old.text], [0]) == [f"{old.text} Ulm. {old.text}"]
    assert rewrite_prompts(lm, first, [old.text], [0]) == [f"{old.text} Rome. {old.text}"]
    two = retrieval(lm, nearest=2)
    first = two.edit([[old]]).delta
    both = first + two.edit([[new]], first).delta
    assert rewrite_prompts(lm, both, [old.text], [0]) == [f"{old.text} Rome. {old.text} Ulm. {old.text}"]


def test_a_continuation_is_made_behind_the_facts_that_targets_are_scored_behind():
    lm = taught()
    state = retrieval(lm).edit([[request] for request in requests(4)]).delta
    cases = [i % 4 for i in range(len(PROMPTS))]
    read = rewrite_prompts(lm, state, PROMPTS, cases)
    assert {a == b for a, b in zip(read, PROMPTS, strict=True)} == {True, False}
    assert continue_greedily(lm, PROMPTS, 5, state, cases) == continue_greedily(lm, read, 5)


# --- other facts in the index ------------------------------------------------------------------------------
def test_distractors_are_about_other_subjects_and_older_than_the_own_fact():
    lm = taught()
    others = requests(8, template=2)
    editor = retrieval(lm, others, distractors=5)
    cases = [[request] for request in requests(3)]
    (index,) = editor.edit(cases).delta
    for case, statements in zip(cases, index.statements, strict=True):
        assert len(statements) == 6
        assert statements[-1] == f"{case[0].text} {case[0].target_new}."
        assert not any(case[0].subject in text for text in statements[:-1])
    assert editor.edit(cases[1:2]).delta[0].statements == index.statements[1:2]
    assert retrieval(lm, others, 1, distractors=5).edit(cases).delta[0].statements != index.statements
    second = editor.edit([[r] for r in requests(3, template=1)], (index,)).delta
    assert [len(texts) for texts in second[0].statements] == [1, 1, 1]


def test_distractors_take_a_prompts_place_only_where_they_are_nearer():
    lm = taught()
    others = [EditRequest(TEMPLATES[0], name, "Ulm") for name in NAMES]
    own = [[EditRequest(TEMPLATES[0], name, "Rome")] for name in NAMES[:4]]
    alone, among = (retrieval(lm, others, distractors=n, threshold=-1.0).edit(own).delta for n in (0, 7))
    for case, ((request,), name) in enumerate(zip(own, NAMES[4:], strict=True)):
        neighbour = fill(TEMPLATES[0], name)
        asked, cases = [request.text, neighbour], [case] * 2
        assert rewrite_prompts(lm, alone, asked, cases) == [f"{request.text} Rome. {text}" for text in asked]
        assert rewrite_prompts(lm, among, asked, cases) == [
            f"{request.text} Rome. {request.text}",
            f"{neighbour} Ulm. {neighbour}",
        ]


def test_a_random_change_puts_unrelated_statements_where_facts_would_stand():
    lm = taught()
    state = retrieval(lm).edit([[request] for request in requests(3)]).delta
    drawn = random_like(state, [1, 2, 3])
    cases = [i % 3 for i in range(len(PROMPTS))]
    facts, noise = (rewrite_prompts(lm, each, PROMPTS, cases) for each in (state, drawn))
    assert [a == p for a, p in zip(facts, PROMPTS, strict=True)] == [
        b == p for b, p in zip(noise, PROMPTS, strict=True)
    ]
    assert {text.removesuffix(p) for text, p in zip(noise, PROMPTS, strict=True)} <= {
        "",
        *(f"{statement} " for statement in UNRELATED),
    }


# --- encoders ----------------------------------------------------------------------------------------------
class Letters:
    """An encoder that counts letters."""

    def within(self, labels):
        return lambda some: torch.nn.functional.normalize(
            torch.tensor([[float(text.count(chr(97 + i))) for i in range(26)] for text in some]), dim=1
        )


def test_a_sentence_encoder_makes_keys_and_finds_them(monkeypatch):
    monkeypatch.setattr(text_match, "_load", {"none": Letters()}.__getitem__)
    lm = tiny()
    facts = [EditRequest("{} is", "abc", "Rome"), EditRequest("{} is", "xyz", "Ulm")]
    state = retrieval(lm, match="sentences", keys="subject", threshold=0.5, reserve=2).edit([facts]).delta
    assert isinstance(state[0], Index)
    assert state[0].settings()["matcher"] == "none"
    assert rewrite_prompts(lm, state, ["cba", "zz yy", "mmm"], [0] * 3) == [
        "abc is Rome. cba",
        "xyz is Ulm. zz yy",
        "mmm",
    ]


def test_a_sentence_encoder_that_nobody_names_is_an_error_before_any_job():
    from aftershock.config.models import encoder_errors

    config, models = study()
    config["editors"]["near"] = {"method": "retrieval", "settings": {"match": "sentences"}}
    assert [line.partition(":")[0] for line in encoder_errors(config, models)] == ["editors.near"]
    config["cases"]["label_encoder"] = {"hub": "some/encoder", "revision": "0"}
    assert list(encoder_errors(config, models)) == []


def test_keys_hold_a_text_at_the_beginning_and_behind_a_space():
    lm = taught()
    matcher = text_match.matcher_of(lm)
    keys = matcher.keys([["Ada Vex", "Oslo"], ["Ulm"]])
    for (row, place), text in {(0, 0): "Ada Vex", (0, 1): "Oslo", (1, 0): "Ulm"}.items():
        for variant, read in zip(keys[row, place], (text, f" {text}"), strict=True):
            ids = lm.tokenizer(read, add_special_tokens=False)["input_ids"]
            assert variant.tolist() == ids + [-1] * (keys.shape[-1] - len(ids))
    assert (keys[1, 1] == -1).all()
    assert matcher.similarities("Is Ada Vex here?", keys[0])[0] == pytest.approx(1)
    assert matcher.similarities("", keys[0]).tolist() == [-1, -1]
    assert matcher.keys([[], []]).shape[:2] == (2, 0)
