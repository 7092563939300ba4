"""Names in batches, redirected entities, labels that look like an id, and the queries of a study."""

import json
import math
import socket

import pandas as pd
import pytest

from aftershock.datasets.invariants import label_faults
from aftershock.kg import names as names_module
from aftershock.kg.answers import EndpointError
from aftershock.kg.client import Client, PageSize
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint_source import SUBJECTS, EndpointSource
from aftershock.kg.filters import ID_LIKE, IDENTICAL, Names, filter_instances, label_fault
from aftershock.kg.graph import GRAPHS, find_graph
from aftershock.kg.labels import Redirections, find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.names import find_names
from aftershock.kg.plan import plan, print_queries, summarize
from aftershock.kg.queries import names
from aftershock.kg.sample import sample_facts
from faulty import FaultyEndpoint, client_of
from graphs import WORLD, as_instances, as_labels, as_sample

NAMES = {
    "E1": ("also", "en", None),  # of two English labels the first; the one for all languages comes second
    "E3": ("name 3", "mul", None),
    "E9": (None, None, None),
    "E20": (None, None, "E21"),
}


@pytest.mark.parametrize("batch", [1, 3, 200])
def test_names_are_asked_for_in_batches(endpoint, monkeypatch, batch: int) -> None:
    monkeypatch.setattr(names_module, "BATCH", batch)
    assert find_names(client_of(endpoint), [*NAMES, "E1"]) == NAMES
    assert len(endpoint.asked) == -(-len(NAMES) // batch)


def test_an_answer_about_others_is_no_answer(endpoint) -> None:
    wrong = json.loads(endpoint.answer(WORLD.prefixes + names(["E2"], WORLD.entities)))
    endpoint.answers[WORLD.prefixes + names(["E1"], WORLD.entities)] = json.dumps(wrong).encode()
    client = client_of(endpoint)
    assert find_names(client, ["E1"])["E1"] == NAMES["E1"]  # the second attempt is another query
    assert client.requests == 2
    endpoint.answer = lambda query: json.dumps(wrong).encode()
    with pytest.raises(EndpointError, match="1 rows about 1 entities came for 1 entities"):
        find_names(client_of(endpoint), ["E1"])
    del endpoint.answer
    endpoint.script = lambda query: "no rows"
    with pytest.raises(EndpointError, match="0 rows about 0 entities came for 1 entities"):
        find_names(client_of(endpoint), ["E1"])


def test_labels_are_counted_by_language(endpoint, caplog) -> None:
    caplog.set_level("INFO")
    labels = find_labels(EndpointSource(client_of(endpoint)), NAMES)
    said = "5 entities, 1 with an English label, 1 with one for all languages only, 1 redirects"
    assert said in caplog.text
    assert labels["entity_id"].tolist() == ["E1", "E20", "E21", "E3", "E9"]


def test_redirected_ids_are_replaced_everywhere_and_counted() -> None:
    ends = [("E1", "E2"), ("E2", "E3"), ("E3", None), ("E5", "E6"), ("E6", "E5"), ("E7", "E7")]
    moved = Redirections(as_labels((entity, None, None, end) for entity, end in ends))
    assert moved.ends == {"E1": "E3", "E2": "E3"}  # the others lead in circles
    facts = as_sample([("E1", "R1", "E9"), ("E3", "R1", "E9"), ("E4", "R1", "E2"), ("E5", "R1", "E8")])
    found = moved.follow(facts)
    assert found.to_numpy().tolist() == [["E3", "R1", "E9"], ["E4", "R1", "E3"], ["E5", "R1", "E8"]]
    assert moved.rows == 2
    instances = as_instances(("R1>R2", "E9", "E1", "E9"))
    assert moved.follow(instances).to_numpy().tolist() == [["R1>R2", "E9", "E3", "E9"]]
    assert moved.rows == 3
    pd.testing.assert_frame_equal(moved.follow(facts[3:]), facts[3:])


def test_entities_that_redirect_to_one_make_no_instance() -> None:
    labels = as_labels([("E1", "one", "en", None), ("E2", "two", "en", None), ("E3", None, None, "E1")])
    rows = [("R1&R2>R3", "E1", "E2", "E3"), ("R1>R2", "E2", "E3", "E2"), ("R1>R2", "E1", "E3", "E1")]
    found = Redirections(labels).follow(as_instances(*rows))
    no_fact = pd.DataFrame(columns=["subject_id", "relation_id", "object_id", "kept", "reason"])
    judged = filter_instances(found, no_fact.astype({"kept": bool}), Names(labels, WORLD))
    assert judged["reason"].tolist() == [IDENTICAL, IDENTICAL, None]


def test_names_are_asked_for_in_halves_once_where_nobody_answers(endpoint) -> None:
    endpoint.script = lambda query: "502"
    with pytest.raises(EndpointError, match="no usable answer in 5 attempts: HTTP 502"):
        find_names(client_of(endpoint), ["E1", "E2", "E3", "E4"])
    assert len(endpoint.asked) == 10


@pytest.mark.parametrize(
    ("namespace", "entity_id", "ids", "others"),
    [
        ("wikidata", "Q7", "Q12 P22 L42 Q0", "V2 E12 R3 M31 Q01 Q q12 Q12a A4"),
        ("world", "E7", "E12 R3", "V2 Q12 P22 L42 E01 e12"),
    ],
)
def test_a_label_is_an_id_by_the_pattern_of_its_graph(namespace, entity_id, ids, others) -> None:
    graph, labels, ids = find_graph(namespace), f"{ids} {others}".split(), ids.split()
    assert [label for label in labels if label_fault(label, graph) == ID_LIKE] == ids
    mentions = pd.DataFrame({"case_id": range(len(labels)), "entity_id": entity_id, "label": labels})
    found = label_faults(mentions)
    found = found[found["kind"] == "label is an id"]
    assert found["label"].tolist() == ids
    assert found["case_id"].tolist() == list(range(len(ids)))


def test_an_entity_of_no_known_graph_has_the_patterns_of_all() -> None:
    labels = ["V2", "Q12", "E12"]
    found = label_faults(pd.DataFrame({"case_id": 0, "entity_id": "http://x/1", "label": labels}))
    assert found["label"].tolist() == ["Q12", "E12"]


STUDY = "kg: q\nkgs: {q: {source: endpoint, namespace: wikidata, url: 'https://query.wikidata.org/sparql'}}\n"


def test_a_small_graph_is_sent_just_the_planned_queries(endpoint: FaultyEndpoint) -> None:
    source = EndpointSource(Client(endpoint.url, WORLD))
    sample_facts(source, ["R1", "R2"], 10_000, seed=0)
    find_combinations(source, LogicRule.parse("R1&R2>R2"), 10_000, seed=0)
    find_objects(source, "R1")
    find_labels(source, ["E1"])
    steps = plan(WORLD, {"R1": 20, "R2": 20}, ["R1&R2>R2"], ["R1"], {"max_facts": 10_000, "seed": 0})
    planned = {step.query for step in steps}
    sent = [query for query in endpoint.asked if "VALUES ?s" not in query]
    assert planned >= set(sent)
    assert len(planned - set(sent)) == 1  # the page of R1's subjects, which names other entities
    number = sum(step.requests for step in steps)
    assert number == len(set(endpoint.asked))
    assert f"would be sent about {number} requests" in summarize(steps, "http://x")


def test_pages_are_counted_from_the_number_of_facts() -> None:
    approx = {"P22": 3_000_000, "P40": 500}
    mining = {"max_facts": 10**6, "seed": 1}
    steps = plan(GRAPHS["wikidata"], approx, ["P22>P40", "P22>P22"], ["P40"], mining, PageSize())
    of_rule = [step for step in steps if step.stage == "mine_combinations" and step.about == "P22>P22"]
    pages = math.ceil(3_000_000 / PageSize.values)
    assert [(step.kind, step.requests) for step in of_rule] == [("count", 1), ("list", 1), ("page", pages)]
    small = [step.kind for step in steps if step.about == "P22>P40"]
    assert small == ["count", "page"]
    assert any("MD5" in step.query for step in steps)  # more facts than max_facts: some subjects
    of_cases = [step for step in steps if step.stage == "mine_true_objects"]
    of_subjects = [(step.kind, step.requests) for step in of_cases if step.about.startswith("facts")]
    number = 2 * 500 + 2 * 3_000_000 + math.ceil(10**6 * 3_000_000 / 3_000_500)
    assert of_subjects == [(kind, math.ceil(number / SUBJECTS)) for kind in ("count", "page")]
    of_ranks = [(step.kind, step.requests) for step in of_cases if step.about.startswith("statements")]
    assert of_ranks == [(kind, math.ceil((number + 10**6) / SUBJECTS)) for kind in ("count", "page")]
    whole = plan(GRAPHS["wikidata"], {"P40": 500}, [], [], {"max_facts": 10**6, "seed": 1})
    assert not any("MD5" in step.query or step.about.startswith("facts about") for step in whole)


def test_bodies_alone_and_some_subjects_are_planned_as_they_are_asked_for() -> None:
    mining = {"max_facts": 10**6, "seed": 1, "head_holds": False, "max_keys": 2500}
    steps = plan(GRAPHS["wikidata"], {"P22": 3_000_000, "P40": 500}, ["P22>P40"], ["P22"], mining)
    of_rule = [step for step in steps if step.stage == "mine_combinations"]
    assert of_rule[0].query.endswith("SELECT (COUNT(*) AS ?rows) WHERE { ?x wdt:P22 ?y . }")
    assert of_rule[-1].requests == 3000  # by the body: the head's 500 facts limit nothing
    of_keys = [step for step in steps if step.stage == "mine_objects" and step.kind == "page"]
    assert [step.requests for step in of_keys] == [math.ceil(2500 / PageSize.values)]


def test_a_study_is_shown_and_nothing_is_sent(tmp_path, capsys, monkeypatch) -> None:
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("a socket was opened"))
    (tmp_path / "study.yaml").write_text(STUDY)
    print_queries([tmp_path / "study.yaml"], None)
    text = capsys.readouterr().out
    assert "SELECT (COUNT(*) AS ?rows) WHERE { ?x wdt:P22 ?y . ?y wdt:P40 ?x . }" in text
    assert "https://query.wikidata.org/sparql would be sent about " in text
    assert "Nothing was sent" in text
    print_queries([tmp_path / "study.yaml"], tmp_path / "queries")
    files = sorted((tmp_path / "queries").glob("*.rq"))
    assert len(files) == text.count("PREFIX wdt:")
    start = "# sample_facts, count: P22; sent once\nPREFIX wd: <http://www.wiki"
    assert files[0].read_text().startswith(start)
    assert "would be sent about" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kg: world", "graph world is read from a file .source: generated., so no service is asked"),
        ("kg: wrld", "kg: 'wrld' is unknown; did you mean 'world'"),
    ],
)
def test_studies_without_a_service_are_named(tmp_path, text: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        print_queries([tmp_path / "study.yaml"], None)
    with pytest.raises(ValueError, match="there is no study .*nowhere.yaml"):
        print_queries([tmp_path / "nowhere.yaml"], None)
