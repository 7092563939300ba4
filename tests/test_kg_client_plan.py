"""The queries of a study, shown without anything being sent."""

import math
import socket

import pytest

from aftershock.kg.client import Client, PageSize
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.endpoint_source import SUBJECTS, EndpointSource
from aftershock.kg.graph import GRAPHS
from aftershock.kg.labels import find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.plan import plan, print_queries, summarize
from aftershock.kg.sample import sample_facts
from faulty import FaultyEndpoint
from graphs import WORLD

STUDY = "kg: q\nkgs: {q: {source: endpoint, namespace: wikidata, url: 'https://query.wikidata.org/sparql'}}\n"


@pytest.fixture
def no_socket(monkeypatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


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
    assert sum(step.requests for step in steps) == len(set(endpoint.asked))


def test_pages_are_counted_from_the_number_of_facts() -> None:
    approx = {"P22": 3_000_000, "P40": 500}
    mining = {"max_facts": 10**6, "seed": 1}
    steps = plan(GRAPHS["wikidata"], approx, ["P22>P40", "P22>P22"], ["P40"], mining, PageSize())
    of_rule = [step for step in steps if step.stage == "mine_combinations" and step.about == "P22>P22"]
    assert [(step.kind, step.requests) for step in of_rule] == [
        ("count", 1),
        ("list", 1),
        ("page", math.ceil(3_000_000 / PageSize.values)),
    ]
    small = [step.kind for step in steps if step.about == "P22>P40"]
    assert small == ["count", "page"]
    assert any("MD5" in step.query for step in steps)  # more facts than max_facts: some subjects
    of_subjects = [(step.kind, step.requests) for step in steps if step.stage == "mine_true_objects"]
    number = 2 * 500 + 2 * 3_000_000 + math.ceil(10**6 * 3_000_000 / 3_000_500)
    assert of_subjects == [(kind, math.ceil(number / SUBJECTS)) for kind in ("count", "page")]
    whole = plan(GRAPHS["wikidata"], {"P40": 500}, [], [], {"max_facts": 10**6, "seed": 1})
    assert not any("MD5" in step.query or step.stage == "mine_true_objects" for step in whole)


def test_bodies_alone_and_some_subjects_are_planned_as_they_are_asked_for() -> None:
    mining = {"max_facts": 10**6, "seed": 1, "head_holds": False, "max_keys": 2500}
    steps = plan(GRAPHS["wikidata"], {"P22": 3_000_000, "P40": 500}, ["P22>P40"], ["P22"], mining)
    of_rule = [step for step in steps if step.stage == "mine_combinations"]
    assert of_rule[0].query.endswith("SELECT (COUNT(*) AS ?rows) WHERE { ?x wdt:P22 ?y . }")
    assert of_rule[-1].requests == 3000  # by the body: the head's 500 facts limit nothing
    of_keys = [step for step in steps if step.stage == "mine_objects" and step.kind == "page"]
    assert [step.requests for step in of_keys] == [math.ceil(2500 / PageSize.values)]


@pytest.mark.usefixtures("no_socket")
def test_a_study_is_shown_and_nothing_is_sent(tmp_path, capsys) -> None:
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


def test_the_sum_is_that_of_the_steps() -> None:
    steps = plan(WORLD, {"R1": 20}, [], [], {"max_facts": 100, "seed": 0})
    number = sum(step.requests for step in steps)
    assert f"would be sent about {number} requests" in summarize(steps, "http://x")
