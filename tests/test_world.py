"""The generated world: its rules, sizes, dirt and sheets."""

import gzip
import re
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pyoxigraph import Literal, RdfFormat, parse

from aftershock.datasets.split import components
from aftershock.kg.triples import write_triples
from aftershock.kg.world import DIRECT, ENTITY, GENID, generate_world
from aftershock.prompts import fill

RESOURCES = Path(__file__).parents[1] / "resources"


def sheet(name: str) -> pd.DataFrame:
    """The world's rows of a sheet."""
    rows = pd.read_csv(RESOURCES / f"{name}.tsv", sep="\t", dtype=str, quoting=3, keep_default_na=False)
    return rows[rows["namespace"] == "world"]


@pytest.fixture(scope="module")
def spec() -> dict:
    return yaml.safe_load((RESOURCES / "world.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def triples(spec) -> list:
    return list(parse("".join(generate_world(spec, 0)).encode(), format=RdfFormat.N_TRIPLES))


@pytest.fixture(scope="module")
def facts(triples) -> dict[str, set[tuple[str, str]]]:
    """(subject, object) pairs between entities, by relation id."""
    found = defaultdict(set)
    for triple in triples:
        if triple.predicate.value.startswith(DIRECT) and triple.object.value.startswith(ENTITY):
            subject, object_ = (term.value.removeprefix(ENTITY) for term in (triple.subject, triple.object))
            found[triple.predicate.value.removeprefix(DIRECT)].add((subject, object_))
    return found


@pytest.fixture(scope="module")
def labels(triples) -> dict[str, dict[str, str]]:
    """Labels by entity id and language."""
    found = defaultdict(dict)
    for triple in triples:
        if triple.predicate.value.endswith("#label"):
            entity = triple.subject.value.removeprefix(ENTITY)
            if entity.startswith("E"):
                found[entity][triple.object.language] = triple.object.value
    return found


def kept_rules() -> list[str]:
    rules = sheet("rules")
    return list(rules.loc[rules["status"] == "keep", "rule"])


def instances(rule: str, facts: dict) -> tuple[set[tuple[str, str, str]], set[tuple[str, str, str]]]:
    """(x, y, z) where the body holds (z = x for a binary rule), and those where the head holds too."""
    body, head = rule.split(">")
    if "&" not in body:
        found = {(x, y, x) for x, y in facts[body]}
        return found, {(x, y, z) for x, y, z in found if (y, x) in facts[head]}
    first, second = body.split("&")
    after = defaultdict(set)
    for y, z in facts[second]:
        after[y].add(z)
    found = {(x, y, z) for x, y in facts[first] for z in after[y] if len({x, y, z}) == 3}
    return found, {(x, y, z) for x, y, z in found if (x, z) in facts[head]}


@pytest.mark.parametrize("rule", kept_rules())
def test_a_kept_rule_has_instances_and_no_exception(rule, facts):
    body, holding = instances(rule, facts)
    assert len(body) >= 8
    assert body == holding


def test_functional_relations_have_one_object_per_subject(facts):
    for row in sheet("relations").itertuples():
        objects = Counter(subject for subject, _ in facts[row.relation_id])
        assert (max(objects.values()) == 1) == (row.functional == "yes"), row.label


def test_the_world_is_large_enough_for_its_quotas(facts):
    """Totals are 1.8 times what the test split needs: it gets .6 of them, less the unknown ones."""
    functional = set(sheet("relations").query("functional == 'yes'")["relation_id"])
    strict = [rule for rule in kept_rules() if rule.split(">")[1] in functional]
    binary = [rule for rule in strict if "&" not in rule]
    assert sum(len(instances(rule, facts)[1]) for rule in binary) >= 108
    assert sum(len(instances(rule, facts)[1]) for rule in strict if rule not in binary) >= 108
    assert len({(r, *fact) for rule in binary for r in rule.split(">") for fact in facts[r]}) >= 180
    keys = Counter((r, subject) for r in facts for subject, _ in facts[r])
    assert sum(count > 1 for count in keys.values()) >= 200
    assert {count for count in keys.values()} >= {1, 2, 3, 4, 5}
    assert 1300 <= sum(keys.values()) <= 1600


def test_subjects_of_rule_instances_fall_into_small_components(facts):
    """Cases are split by component, so a component that holds much of the world would spoil the shares."""
    named = components([(x, y) for rule in kept_rules() for x, y, _ in instances(rule, facts)[1]])
    sizes = Counter(named.values())
    assert len(sizes) >= 20
    assert max(sizes.values()) <= 0.12 * len(named)


def test_places_of_birth_do_not_tell_the_citizenship(spec, facts):
    ids = spec["relations"]
    country = dict(facts[ids["country"]])
    citizenship = dict(facts[ids["citizenship"]])
    born_at_home = [country[city] == citizenship[person] for person, city in facts[ids["place of birth"]]]
    assert sum(born_at_home) / len(born_at_home) < 0.3


def test_the_dirt_of_the_spec_is_there(spec, triples, facts, labels):
    dirt = spec["dirt"]
    entities = {entity for pairs in facts.values() for pair in pairs for entity in pair}
    redirected = {
        t.subject.value.removeprefix(ENTITY) for t in triples if t.predicate.value.endswith("sameAs")
    }
    assert sum(found.keys() == {"de"} for found in labels.values()) == dirt["only_german"]
    assert sum(found.keys() == {"mul"} for found in labels.values()) == dirt["only_mul"]
    assert sum(found.get("en") == entity for entity, found in labels.items()) == dirt["label_is_id"]
    assert len(redirected) == len(redirected & entities) == dirt["redirects"]
    assert len(entities - labels.keys() - redirected) == dirt["unlabelled"]
    assert sum(t.object.value.startswith(GENID) for t in triples) == dirt["unknown_values"]
    assert sum(t.object.value.endswith("DeprecatedRank") for t in triples) == dirt["deprecated"]
    award = DIRECT + spec["relations"]["award received"]
    literals = [t for t in triples if t.predicate.value == award and isinstance(t.object, Literal)]
    assert len(literals) == dirt["literal_values"]
    titles = {found.get("en") for found in labels.values()}
    assert titles >= set(dirt["hostile_labels"])
    assert any(re.search("[\u0590-\u06ff]", title) for title in dirt["hostile_labels"])


def test_a_deprecated_statement_has_no_truthy_triple(spec, triples, facts):
    relation = spec["relations"]["citizenship"]
    former = [t for t in triples if t.predicate.value.endswith(f"/prop/statement/{relation}")]
    assert former
    for triple in former:
        person = triple.subject.value.rsplit("/", 1)[1].split("-")[0]
        assert (person, triple.object.value.removeprefix(ENTITY)) not in facts[relation]


def test_bytes_depend_on_spec_and_seed_only(spec, tmp_path):
    paths = [tmp_path / name for name in ("one.nt.gz", "two.nt.gz", "other.nt.gz")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        write_triples(generate_world(spec, seed), path)
    one, two, other = (path.read_bytes() for path in paths)
    assert one == two != other
    assert gzip.decompress(one).decode().splitlines(keepends=True) == generate_world(spec, 3)


def test_a_world_with_repeated_names_is_refused(spec):
    narrow = {**spec, "names": {**spec["names"], "awards": ["Silver Compass", "Silver Compass"]}}
    narrow["one_to_many"] = {"award received": {"pool": "awards", "persons": 1}}
    narrow["objects"] = {2: 1.0}
    with pytest.raises(ValueError, match="1 labels used twice"):
        generate_world(narrow, 0)


def test_every_relation_of_the_world_is_in_the_sheet_with_a_question(spec):
    for row in sheet("relations").itertuples():
        assert spec["relations"][row.label] == row.relation_id
        assert "Ada" in fill(row.query, "Ada")
        assert row.noun
