"""Texts that do not fit a model are told before it computes: whose they are, how long, and what to do."""

import pandas as pd
import pytest

from aftershock.experiments import lengths
from aftershock.experiments.cases import run_cases, score_unedited
from aftershock.experiments.knowledge import Ranking, score_objects, verify_facts
from aftershock.experiments.lengths import check_lengths
from aftershock.lm.networks.label_encoder import ModelEncoder
from aftershock.lm.texts.tokens import encode_pairs, locate
from aftershock.tables.cases import EDITS, PROBES
from tiny import CONTEXT, tiny

PROMPTS = pd.DataFrame(
    [("P22", 0, "The father of {} is"), ("P22", 1, "As for {}, the father is"), ("P19", 0, "{} was born in")],
    columns=["relation_id", "prompt_id", "template"],
)
LONG = {
    "Cyrillic": "Замечания о переводах " * 11,
    "Latin": "On the Word of the Year " * 10,
    "CJK": "東京都" * 83,
}
REMEDY = r"resources/screen\.tsv, give it a shorter label in the graph, or take a model with a longer context"


def facts(*rows: tuple[str, str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["subject_id", "relation_id", "object_id", "subject", "object"])


@pytest.mark.parametrize("script", LONG)
@pytest.mark.parametrize("end", ["subject", "object"])
def test_what_is_asked_about_facts_names_the_entity(script, end, monkeypatch):
    lm, label = tiny(), LONG[script].strip()
    monkeypatch.setattr(lm, "run", lambda *_, **__: pytest.fail("the model ran"))
    asked = facts(
        ("Q1", "P22", "Q2", "Ada Vex", "Oslo"),
        ("Q3", "P19", "Q4", *((label, "Graz") if end == "subject" else ("Dario", label))),
    )
    wrong = "Q3" if end == "subject" else "Q4"
    for ask in (
        lambda: verify_facts(lm, asked, PROMPTS, 2, Ranking(10)),
        lambda: score_objects(lm, asked, PROMPTS, ModelEncoder(lm), Ranking(10)),
    ):
        with pytest.raises(ValueError, match=rf"{wrong}.* tokens.*screen\.tsv") as caught:
            ask()
        assert "Q1" not in str(caught.value)
        assert f"context of {CONTEXT}" in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_texts_that_fit_exactly_are_no_fault():
    lm = tiny()
    text = "Oslo"
    while len(lm.encode([text + " Oslo"])[0]) <= lm.context:
        text += " Oslo"
    check_lengths(lm, [("Q1", text)])
    with pytest.raises(
        ValueError, match=rf"^1 labels or prompts .*Q2 makes {CONTEXT + 1} tokens\).*{REMEDY}$"
    ):
        check_lengths(lm, [("Q1", text), ("Q2", text + " Oslo")])


def test_the_first_are_named_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(lengths, "NAMED", 2)
    lm, long = tiny(), "東" * CONTEXT
    with pytest.raises(ValueError, match=r"^3 labels .*Q1 makes .*; Q2 makes .*; and others, in this log\)"):
        check_lengths(lm, [("Q1", long), ("Q2", long), ("Q2", long), ("Q3", long)])


def probes(subject: str, target: str) -> pd.DataFrame:
    row = dict.fromkeys(PROBES.columns, 0) | {
        "case_id": 7, "role": "tied", "relation_id": "P22", "prompts": "all",
        "subject_id": "Q3", "subject": subject, "object_id": "Q4", "object": target,
    }  # fmt: skip
    return pd.DataFrame([row])[list(PROBES.columns)]


def test_probes_and_edits_name_their_case():
    lm, long = tiny(), LONG["Latin"].strip()
    for pair in ((long, "Oslo"), ("Ada Vex", long)):
        with pytest.raises(ValueError, match=rf"Q3 with Q4 in case 7 makes \d+ tokens.*{REMEDY}"):
            score_unedited(lm, probes(*pair), PROMPTS)
    edit = dict.fromkeys(EDITS.columns, "") | {
        "case_id": 7, "edit": "e1", "position": 0, "prompt": "{} was born in",
        "subject_id": "Q3", "subject": long, "target_new_id": "Q4", "target_new": "Oslo",
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"Q3 with Q4 in case 7, edit e1 makes \d+ tokens.*{REMEDY}"):
        run_cases(lm, None, pd.DataFrame([edit]), probes("Ada Vex", "Oslo"), PROMPTS, ())


def test_any_other_text_is_shown_in_part_with_the_remedy():
    lm, long = tiny(), LONG["Cyrillic"].strip()
    for ask in (
        lambda: encode_pairs(lm, [(f"As for {long}, home is", "Oslo")]),
        lambda: locate(lm, [("{} was born in", long)]),
    ):
        with pytest.raises(
            ValueError, match=rf"'.*Замечания.* \.\.\. .*' has \d+ tokens.*{REMEDY}"
        ) as caught:
            ask()
        assert long not in str(caught.value)
