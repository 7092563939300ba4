"""Paraphrases told from other texts, the choice among them, and the reviewed sheet that wins."""

import itertools
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from aftershock.kg.screen import read_screen
from aftershock.kg.sheets import PARAPHRASES, list_prompts, read_paraphrases, read_relations
from aftershock.kg.world import generate_world
from aftershock.paraphrases.answers import read_list
from aftershock.paraphrases.asking import Relation, messages_for, relations_to_ask
from aftershock.paraphrases.language import ENGLISH, FOREIGN, is_english
from aftershock.paraphrases.ranking import choose, distance, most_diverse, shingles, suggestions
from aftershock.paraphrases.validation import REASONS, Validator, normal, tidy
from aftershock.schema import read_sheet
from aftershock.tables.graph import FACTS, PARAPHRASE_CANDIDATES, PARAPHRASE_SCORES, PROMPTS
from aftershock.tables.graph import PARAPHRASES as CHOSEN
from chatty import SPOUSE

RESOURCES = Path(__file__).parents[1] / "resources"
PLAIN = Relation("R1", "l", "{} a b", "n", "s", "o")


# --- one candidate ---------------------------------------------------------------------------------------
JUDGED: dict[str | None, list[object]] = {
    None: [
        *(
            "The wife or husband of {} is",
            "  “{} shares a home with”  ",
            "Genealogists name as the partner of {}",
        ),
        *(
            "In the case of {}, one speaks of the partner,",
            "Since the 1990s, {} has loved number 7",
            "{} wed",
        ),
    ],
    "not a text": [3, None, ["{} is married to"]],
    "control or invisible characters": [
        *("{} is\nmarried with", "{} is \x1b[31mmarried with", "{} is \u202emarried with"),
        "{} is \ud800 married with",
    ],
    "empty": ["   "],
    "longer than 200 characters": ["The husband of {} " + "and so on " * 20 + "is"],
    "no slot {}": ["The wife is", "{subject} is the wife of"],
    "more than one slot {}": ["{} is the wife of {}"],
    "braces beside the slot": ["{} is the {wife} of", "{{}} is the wife of"],
    "a placeholder where the object belongs": [
        f"{{}} is the wife of{end}" for end in (" [object]", " ___", "...", " <name>")
    ],
    "does not end where the object follows": [
        *("{} has a wife.", "Who is the wife of {}?", "The wife of {}:", 'The wife of {} is "')
    ],
    "names an object of the relation": [
        *("{} is the wife of Hugo Ålund", "{} is the wife of hugo  ålund these days")
    ],
    "not English": ["Die Frau von {} ist", "{} est le mari de", "{} é casado com", "Супруг {} это"],
    "repeats the prompt": ["{} Is Married To", "{}, is married to,"],
    "already in paraphrases.tsv": ["the spouse of {} is"],
}


@pytest.mark.parametrize("reason", JUDGED)
def test_candidates(reason: str | None) -> None:
    for text in JUDGED[reason]:
        validator = Validator("{} is married to", ["The spouse of {} is"], ["Hugo Ålund", "It", "Married"])
        template, found = validator.judge(text)
        assert found == reason, text
        assert reason is None or reason in REASONS
        assert template.isprintable()
        assert "\t" not in template
        if reason is None:
            assert validator.judge(text.upper().replace(" ", "  "))[1] == "repeats another paraphrase"


def test_a_candidate_is_tidied_before_it_is_judged() -> None:
    assert tidy(' "The wife  of {} is" ') == "The wife of {} is"
    assert tidy("e\u0301 {}") == "é {}"
    assert normal("{}'s WIFE, Ⅷ:") == ("{}", "s", "wife", "viii")


def test_what_the_screen_drops_is_no_paraphrase(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("bast*\n")
    screen = read_screen(tmp_path / "words.txt", RESOURCES / "screen.tsv")
    validator = Validator("{} is a child of", screen=screen)
    assert validator.judge("{} is the bastard of")[1] == "offensive word"
    assert validator.judge("{} is the offspring of")[1] is None


def test_words_of_the_relation_give_no_object_away() -> None:
    plain = Validator("{} is a child of", (), ["mother", "Mother"])
    assert plain.judge("The mother of {} is")[1] == "names an object of the relation"
    assert Validator("{} is a child of", (), ["mother"], "mother").judge("The mother of {} is")[1] is None


def test_small_words_tell_languages_apart() -> None:
    assert not ENGLISH & FOREIGN
    assert is_english("{} runs")
    assert not is_english("{} heiratete später")
    assert not is_english("El marido de {} es")


# --- the answer as a whole ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["{} a", "{} b"]', ["{} a", "{} b"]),
        ('Here you are [as asked]:\n```json\n["{} a", "{} b"]\n```\nAnything else?', ["{} a", "{} b"]),
        ('{"paraphrases": ["{} a"]}', ["{} a"]),
        ('<think>maybe ["{} x"]</think>["{} a", "{} b"]', ["{} a", "{} b"]),
        ('[["{} a", "{} b"]]', ["{} a", "{} b"]),
        ('["{} a", 3, null]', ["{} a", 3, None]),
        ('["{} a", "{} \\"b\\"", "{} c', ["{} a", '{} "b"']),
        ("Sure!\n1. {} a\n2) {} b,\n - {} c", ["{} a", "{} b", "{} c"]),
        ("Sure:\n{} a\n\n{} b", ["{} a", "{} b"]),
        ("I cannot help with that.", []),
        ("", []),
        ("[" * 5000, []),
        ("[1, 2]", []),
    ],
)
def test_lists_in_answers(text: str, expected: list) -> None:
    assert read_list(text) == expected


def test_a_request_says_what_is_wanted() -> None:
    first = messages_for(SPOUSE, 20, 1, [])
    assert [message["role"] for message in first] == ["system", "user"]
    for words in ("{}", "{} is married to", "spouse", "20", "JSON list", "object"):
        assert words in first[1]["content"]
    again = messages_for(SPOUSE, 4, 2, ['{} said "yes" to'])
    assert '["{} said \\"yes\\" to"]' in again[1]["content"]
    assert again != messages_for(SPOUSE, 4, 3, ['{} said "yes" to'])


# --- ranking -----------------------------------------------------------------------------------------------
TEXTS = ["{} a b c", "{} a b d", "x {} y", "{} a b c e", "p q {}", "x {} z"]


def slow_choice(texts: list[str], given: list[str], count: int) -> list[str]:
    """The definition, word for word."""
    there, chosen = list(given), []
    for _ in range(count):
        rest = [text for text in texts if text not in chosen]
        best = max(rest, key=lambda text: min(distance(shingles(text), shingles(o)) for o in there))
        there, chosen = [*there, best], [*chosen, best]
    return chosen


def test_distance_by_hand() -> None:
    one, other = shingles("{} is a B"), shingles("{} is the b")
    assert len(one) == len(other) == 7
    # common: {}, is, b, ({} is); in all 10
    assert distance(one, other) == pytest.approx(1 - 4 / 10)
    assert distance(one, one) == 0
    assert distance(one, shingles("x")) == 1


def test_the_choice_is_the_definition_whatever_came_before() -> None:
    for texts in itertools.permutations(TEXTS):
        found = [texts[i] for i in most_diverse(texts, ["{} a b"], 4)]
        assert found == slow_choice(list(texts), ["{} a b"], 4)
    assert most_diverse([], ["{} a"], 3) == []
    assert len(most_diverse(TEXTS, [], 10)) == len(TEXTS)


def candidates(texts: list[str], relation_id: str = "R1") -> pd.DataFrame:
    reasons = ["not English" if text.startswith("x") else None for text in texts]
    frame = pd.DataFrame({"template": texts, "reason": reasons, "relation_id": relation_id, "request": 1})
    frame = frame.assign(kept=frame["reason"].isna(), candidate=range(1, len(texts) + 1))
    return frame[list(PARAPHRASE_CANDIDATES.columns)]


def test_dropped_candidates_are_listed_and_never_ranked() -> None:
    chosen = choose([replace(PLAIN, reviewed=("p q {}",), lacks=2)], candidates(TEXTS), PARAPHRASES)
    CHOSEN.check(chosen)
    assert len(chosen) == len(TEXTS)
    assert chosen["rank"].notna().sum() == 2
    assert not chosen.loc[~chosen["kept"], "rank"].notna().any()
    assert chosen["ranking_model"].isna().all()
    whole = choose([PLAIN], candidates(TEXTS), PARAPHRASES)
    assert whole["rank"].notna().sum() == 4  # a complete relation gets as many suggestions as there can be


def test_under_a_ranking_model_only_the_likelier_half_takes_part() -> None:
    texts = [f"{word} {{}} {word}s" for word in "abcdefgh"]
    scores = pd.DataFrame({"relation_id": "R1", "candidate": range(1, 9), "facts": 5})
    scores["logprob"] = [-1.0, -9.0, -2.0, -8.0, -3.0, -7.0, -4.0, -6.0]
    PARAPHRASE_SCORES.check(scores)
    relation = replace(PLAIN, prompt="{} z", lacks=2)
    chosen = choose([relation], candidates(texts), PARAPHRASES, scores, "judge")
    CHOSEN.check(chosen)
    assert set(chosen.loc[chosen["rank"].notna(), "candidate"]) <= {1, 3, 5, 7}
    assert (chosen["ranking_model"] == "judge").all()
    assert chosen["logprob"].tolist() == scores["logprob"].tolist()
    more = choose([replace(relation, lacks=6)], candidates(texts), 10, scores, "j")
    assert set(more.loc[more["rank"].notna(), "candidate"]) == {1, 3, 5, 6, 7, 8}


def test_suggestions_are_rows_of_the_sheet(tmp_path: Path) -> None:
    chosen = choose([replace(PLAIN, lacks=2)], candidates(TEXTS), 10)
    rows = suggestions(chosen, "world", "m at http://x/v1")
    assert rows["status"].tolist() == ["keep", "keep", "drop", "drop"]
    lines = ["\t".join(row) for row in [rows.columns, *rows.itertuples(index=False)]]
    (tmp_path / "paraphrases.tsv").write_text("\n".join(lines) + "\n")
    found, errors = read_sheet(tmp_path / "paraphrases.tsv", "paraphrases")
    assert len(found) == 4
    assert errors == []


# --- the reviewed sheet ------------------------------------------------------------------------------------
@pytest.mark.parametrize("namespace", ["world", "wikidata"])
def test_the_sheet_that_ships_is_what_a_service_has_to_deliver(namespace: str) -> None:
    relations = read_relations(RESOURCES / "relations.tsv", namespace)
    sheet = read_paraphrases(RESOURCES / "paraphrases.tsv", namespace)
    for row in relations.itertuples():
        known = sheet[(sheet["relation_id"] == row.relation_id) & (sheet["status"] == "keep")]
        validator = Validator(row.prompt)
        assert all(validator.judge(text) == (text, None) for text in known["template"])
        assert len(known) == PARAPHRASES
    assert relations_to_ask(relations, sheet, PARAPHRASES) == []


def test_no_shipped_paraphrase_names_an_object_of_the_world() -> None:
    spec = yaml.safe_load((RESOURCES / "world.yaml").read_text())
    lines = generate_world(spec, 0)
    labels = {line.split('"')[1] for line in lines if "label>" in line and line.count('"') == 2}
    assert len(labels) > 300
    relations = read_relations(RESOURCES / "relations.tsv", "world")
    sheet = read_paraphrases(RESOURCES / "paraphrases.tsv", "world")
    for row in relations.itertuples():
        wording = f"{row.label} {row.noun} {row.subject_type} {row.object_type}"
        validator = Validator(row.prompt, (), labels, wording)
        for text in sheet.loc[sheet["relation_id"] == row.relation_id, "template"]:
            assert validator.judge(text)[1] is None, text


@pytest.fixture
def sheets() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two relations; seven rows are kept of the first, and ten of the second."""
    relations = read_relations(RESOURCES / "relations.tsv", "world").head(2)
    sheet = read_paraphrases(RESOURCES / "paraphrases.tsv", "world")
    sheet = sheet[sheet["relation_id"].isin(relations["relation_id"])].reset_index(drop=True)
    sheet.loc[:2, "status"] = "drop"
    return relations, sheet


def test_only_relations_that_lack_some_are_asked_for(sheets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    rows = [("E1", "R1", "E2", "Ada", "Bo", True, None), ("E1", "R2", "E2", "Ada", None, False, "x")]
    facts = pd.DataFrame(rows, columns=list(FACTS.columns))
    (asked,) = relations_to_ask(*sheets, 10, facts=facts)
    assert (asked.relation_id, asked.lacks, len(asked.reviewed), asked.objects) == ("R1", 3, 10, ("Bo",))
    both = relations_to_ask(*sheets, 10, ["R2", "R1"])
    assert [(relation.relation_id, relation.lacks) for relation in both] == [("R1", 3), ("R2", 0)]


def test_reviewed_rows_win_over_generated_ones(sheets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    relations, sheet = sheets
    texts = [f"Option {n} of {{}} is" for n in range(6)]
    rows = [candidates(texts, relation_id) for relation_id in ("R1", "R2")]
    generated = pd.concat(rows, ignore_index=True).assign(rank=[6, 5, 4, 3, 2, 1] * 2)
    prompts = list_prompts(relations, sheet, generated, "m at http://x/v1")
    PROMPTS.check(prompts)
    one, two = (rows for _, rows in prompts.groupby("relation_id"))
    assert list(one["prompt_id"]) == list(two["prompt_id"]) == list(range(11))
    kept = sheet[sheet["status"] == "keep"]
    for found in (one, two):
        mine = kept.loc[kept["relation_id"] == found["relation_id"].iloc[0], "template"]
        assert list(found["template"])[1 : 1 + len(mine)] == list(mine)
    assert list(one["template"])[8:] == texts[:2:-1]
    assert list(one["source"])[7:] == ["paraphrases.tsv", *["m at http://x/v1"] * 3]
    assert set(two["source"]) == {"relations.tsv", "paraphrases.tsv"}


def test_relations_that_still_lack_some_are_named(sheets: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    relations, sheet = sheets
    few = candidates(["{} a b"]).assign(rank=[1])
    said = r"need 10 paraphrases each: R1 has 8\. Add rows to paraphrases\.tsv"
    with pytest.raises(ValueError, match=said):
        list_prompts(relations, sheet, few)
    with pytest.raises(ValueError, match=r"R1 has 7, R2 has 0"):
        list_prompts(relations, sheet[sheet["relation_id"] == "R1"])
