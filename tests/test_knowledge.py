"""A model's knowledge, against slow, obvious versions, in any number of jobs."""

import math

import pandas as pd
import pytest

from aftershock.experiments import knowledge
from aftershock.experiments.knowledge import Part, Ranking, blocks, score_objects, verify_facts
from aftershock.lm import scoring
from aftershock.lm.generation import continue_greedily
from aftershock.lm.networks.label_encoder import ModelEncoder
from aftershock.lm.scoring import score
from aftershock.matching import names
from aftershock.prompts import fill
from aftershock.requests import Query
from aftershock.tables.graph import FACT_KEY
from aftershock.tables.models import FACT_ANSWERS, OBJECT_ANSWERS
from tiers import repeated
from tiny import CITIES, NAMES, TEMPLATES, tiny

RELATIONS = {"R1": TEMPLATES, "R2": ["{} lives in", "Ask for {} in", "The home of {} is"]}
PROMPTS = pd.DataFrame(
    [(r, i, text, "sheet") for r, texts in RELATIONS.items() for i, text in enumerate(texts)],
    columns=["relation_id", "prompt_id", "template", "source"],
)
ALL = Ranking(len(CITIES))
KEY = list(FACT_KEY)


def facts(rows: list[tuple[str, str]], relation_id: str = "R1") -> pd.DataFrame:
    """TAUGHT rows of (subject, object)."""
    return pd.DataFrame(
        [(f"E{NAMES.index(s)}", relation_id, f"C{CITIES.index(o)}", s, o) for s, o in rows],
        columns=["subject_id", "relation_id", "object_id", "subject", "object"],
    )


def many() -> pd.DataFrame:
    """Facts of two relations, some with several objects, in no order."""
    rows = [(NAMES[i % 8], CITIES[(i * i + j) % 8]) for i in range(8) for j in range(1 + i % 3)]
    both = pd.concat([facts(rows), facts(rows[::2], "R2")]).drop_duplicates(KEY)
    return both.sample(frac=1, random_state=1, ignore_index=True)


def per_token(lm, prompt: str, label: str) -> float:
    """Mean log-probability of a label's tokens, asked alone."""
    (found,) = score(lm, [Query(prompt, label)])
    return found.logprob / len(found.token_logprobs)


def obvious_rank(lm, prompt: str, label: str, rivals: set[str]) -> int:
    """1 and one more for each rival that is likelier."""
    mine = per_token(lm, prompt, label)
    return 1 + sum(per_token(lm, prompt, rival) > mine for rival in rivals - {label})


def test_facts_are_verified_by_what_the_model_says():
    lm = tiny()
    said = continue_greedily(lm, [fill(TEMPLATES[0], NAMES[0])], 6)[0]
    asked = facts([(NAMES[0], CITIES[0]), (NAMES[1], CITIES[1])])
    asked.loc[0, "object"] = said.split()[0].strip(".,")
    found = verify_facts(lm, asked, PROMPTS, 6, ALL)
    FACT_ANSWERS.check(found)
    assert found["continuation"][0] == said
    assert found["said"].tolist() == [True, names(found["continuation"][1], CITIES[1])]
    with pytest.raises(ValueError, match="relations without prompts: R9"):
        verify_facts(lm, asked.assign(relation_id="R9"), PROMPTS, 6, ALL)


def test_probability_and_rank_of_facts_equal_an_obvious_count():
    lm, asked = tiny(), many()
    found = asked.merge(verify_facts(lm, asked, PROMPTS, 3, ALL), on=KEY)
    for row in found.itertuples(index=False):
        mine = asked[asked["relation_id"] == row.relation_id]
        prompts = [fill(template, row.subject) for template in RELATIONS[row.relation_id]]
        wanted = [math.exp(per_token(lm, prompt, row.object)) for prompt in prompts]
        assert row.probability == pytest.approx(sum(wanted) / 3)
        rivals = set(mine["object"]) - set(mine.loc[mine["subject"] == row.subject, "object"])
        assert row.rank == obvious_rank(lm, prompts[0], row.object, rivals)
        assert row.candidates == len(rivals) + 1
    assert found["rank"].nunique() > 2


def test_objects_are_ranked_among_those_of_their_relation():
    lm = tiny()
    objects = facts([(NAMES[0], c) for c in CITIES[:3]] + [(NAMES[1], CITIES[4]), (NAMES[2], CITIES[2])])
    found = score_objects(lm, objects, PROMPTS, ModelEncoder(lm), ALL)
    OBJECT_ANSWERS.check(found)
    labels = {*CITIES[:3], CITIES[4]}
    wanted = [obvious_rank(lm, fill(TEMPLATES[0], NAMES[0]), city, labels) for city in CITIES[:3]]
    assert found["rank"].tolist()[:3] == wanted
    vectors = ModelEncoder(lm).within(sorted(labels))(CITIES[:3])
    cosine = sum(float(vectors[0] @ vectors[i]) for i in (1, 2)) / 2
    assert found["similarity"][0] == pytest.approx(cosine)
    assert found["similarity"].isna().tolist() == [False, False, False, True, True]
    assert score_objects(lm, objects[:0], PROMPTS, ModelEncoder(lm), ALL).empty


def test_of_many_labels_a_seeded_sample_with_the_true_ones_is_compared(monkeypatch):
    lm, asked = tiny(), many()
    queries: list[Query] = []
    monkeypatch.setattr(knowledge, "score", lambda lm, some: queries.extend(some) or score(lm, some))
    found = verify_facts(lm, asked, PROMPTS, 1, Ranking(4, seed=3))
    compared: dict[str, set[str]] = {}
    firsts = {fill(texts[0], name) for texts in RELATIONS.values() for name in NAMES}
    for query in queries:
        if query.prompt in firsts:
            compared.setdefault(query.prompt, set()).add(query.target)
    for (relation_id, subject), rows in asked.groupby(["relation_id", "subject"]):
        labels = compared[fill(RELATIONS[relation_id][0], subject)]
        assert set(rows["object"]) <= labels
        assert len(labels) == 4
    both = asked.merge(found, on=KEY)
    for row in both.itertuples(index=False):
        prompt = fill(RELATIONS[row.relation_id][0], row.subject)
        true = set(
            asked.loc[(asked["subject"] == row.subject) & (asked["relation_id"] == row.relation_id), "object"]
        )
        assert row.rank == obvious_rank(lm, prompt, row.object, compared[prompt] - true)
        assert row.candidates == len(compared[prompt] - true) + 1
    again = verify_facts(lm, asked, PROMPTS, 1, Ranking(4, seed=3))
    pd.testing.assert_frame_equal(found, again)
    queries.clear()
    verify_facts(lm, asked, PROMPTS, 1, Ranking(4, seed=4))
    assert any(query.target not in compared[query.prompt] for query in queries if query.prompt in compared)


def test_a_key_with_more_objects_than_are_compared_keeps_them_all():
    lm = tiny()
    asked = facts([(NAMES[0], city) for city in CITIES[:5]])
    found = score_objects(lm, asked, PROMPTS, ModelEncoder(lm), Ranking(2))
    assert sorted(found["rank"]) == [1, 2, 3, 4, 5]


def test_repeated_prompts_are_asked_once(monkeypatch):
    lm = tiny()
    asked = facts([(NAMES[0], city) for city in CITIES[:3]])
    namesake = asked.assign(subject_id="E99")  # another entity with the same label
    prompts: list[str] = []
    queries: list[Query] = []

    def grow(lm, texts, n):
        prompts.extend(texts)
        return continue_greedily(lm, texts, n)

    monkeypatch.setattr(knowledge, "continue_greedily", grow)
    monkeypatch.setattr(knowledge, "score", lambda lm, some: queries.extend(some) or score(lm, some))
    monkeypatch.setattr(knowledge, "BLOCK", 2)
    found = verify_facts(lm, pd.concat([asked, namesake], ignore_index=True), PROMPTS, 3, ALL)
    assert prompts == [fill(TEMPLATES[0], NAMES[0])]
    assert len(queries) == len(set(queries)) == 3 * len(TEMPLATES)
    columns = ["continuation", "probability", "rank"]
    halves = [found[found["subject_id"] == i].sort_values("object_id")[columns] for i in ("E0", "E99")]
    assert halves[0].to_numpy().tolist() == halves[1].to_numpy().tolist()


@pytest.mark.parametrize("n", [repeated(1), 3, repeated(7), 40])
def test_any_number_of_jobs_makes_the_same_table(n, monkeypatch):
    lm, asked = tiny(), many()
    monkeypatch.setattr(knowledge, "BLOCK", 4)
    monkeypatch.setattr(scoring, "CPU_TOKENS", 200)
    ranking, encoder = Ranking(5, 1), ModelEncoder(lm)
    jobs = [Part(i, n) for i in range(1, n + 1)]
    found = [verify_facts(lm, asked, PROMPTS, 3, ranking, job) for job in jobs]
    objects = [score_objects(lm, asked, PROMPTS, encoder, ranking, job) for job in jobs]
    for whole, parts, table in (
        (verify_facts(lm, asked, PROMPTS, 3, ranking), found, FACT_ANSWERS),
        (score_objects(lm, asked, PROMPTS, encoder, ranking), objects, OBJECT_ANSWERS),
    ):
        rows = pd.concat([table.check(part).to_pandas() for part in parts])
        same = [frame.sort_values(KEY, ignore_index=True) for frame in (whole, rows)]
        pd.testing.assert_frame_equal(*same, check_exact=True, check_dtype=False)
    assert sum(part.empty for part in found) == max(0, n - len(list(blocks(asked))))


def test_blocks_cut_no_prompt_and_hold_little(monkeypatch):
    monkeypatch.setattr(knowledge, "BLOCK", 5)
    asked = pd.concat([many(), many().assign(subject_id="E77", relation_id="R3")], ignore_index=True)
    found = list(blocks(asked))
    assert len(found) > 5
    prompts = [set(zip(block["relation_id"], block["subject"], strict=True)) for block in found]
    assert sum(map(len, prompts)) == len(set().union(*prompts))
    assert sorted(i for block in found for i in block.index) == list(range(len(asked)))
    longest = asked.groupby(["relation_id", "subject"]).size().max()
    assert max(map(len, found)) < 5 + longest
    assert Part.parse("2-of-3") == Part(2, 3)
    assert list(blocks(asked[:0])) == []


def test_what_is_asked_at_a_time_does_not_grow_with_the_facts(monkeypatch):
    lm = tiny()
    asked = pd.concat([many().assign(subject=lambda rows, i=i: rows["subject"] + f" {i}") for i in range(6)])
    asked["subject_id"] = asked["subject"]
    sizes: list[int] = []

    def counted(lm, queries):
        sizes.append(len(queries))
        return score(lm, queries)

    monkeypatch.setattr(knowledge, "score", counted)
    monkeypatch.setattr(knowledge, "BLOCK", 8)
    verify_facts(lm, asked, PROMPTS, 1, Ranking(3))
    few, sizes[:] = max(sizes[:3]), sizes
    assert len(sizes) >= len(asked) // 11
    assert max(sizes) <= 2 * few


@pytest.fixture
def bad_labels():
    asked = facts([(NAMES[0], CITIES[0]), (NAMES[1], CITIES[1]), (NAMES[2], CITIES[2])])
    asked.loc[1, "object"] = " "
    asked.loc[2, "object"] = "Oslo " * 60
    return asked


def test_labels_that_cannot_be_asked_about_are_named_before_anything_runs(bad_labels, monkeypatch):
    lm = tiny()
    monkeypatch.setattr(lm, "run", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(ValueError, match=r"2 of 3 objects cannot be asked about") as caught:
        verify_facts(lm, bad_labels, PROMPTS, 3, ALL)
    for part in ("C1: target ' ' has no tokens", "C2: ", "context of 48", "resources/screen.tsv"):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match="C1"):
        score_objects(lm, bad_labels, PROMPTS, ModelEncoder(lm), ALL, Part(2, 2))
