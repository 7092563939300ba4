"""The generated world: families, works, offices and organisations, as N-Triples in Wikidata's shape.

Rules that hold by construction: spouse is symmetric; child inverts father and mother; mother & spouse =>
father and father & spouse => mother; child & mother => spouse and child & father => spouse; notable work and
author, director of and director, capital and capital of are inverse pairs of functional relations; notable
work & language of work => writing language; position & jurisdiction => citizenship; director of &
headquarters => work location. Places of birth are drawn from all cities, so that they say nothing about
citizenship.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from aftershock.kg.triples import LABEL, WIKIBASE, iri, literal

BASE = "https://aftershock.invalid"
ENTITY = f"{BASE}/entity/"
DIRECT = f"{BASE}/prop/direct/"
GENID = f"{BASE}/.well-known/genid/"
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
XSD = "http://www.w3.org/2001/XMLSchema#"


class World:
    """A graph being built: entities get ids in the order in which they are named."""

    def __init__(self, spec: Mapping[str, Any], seed: int) -> None:
        self.spec = spec
        self.rng = random.Random(f"world {seed}")
        self.relations: Mapping[str, str] = spec["relations"]
        self.facts: dict[tuple[str, str], list[str]] = {}
        self.labels: dict[str, tuple[str, str]] = {}
        self.triples: set[tuple[str, str, str]] = set()
        self.entities = 0
        self.words: set[str] = set()

    def entity(self, label: str | None, language: str = "en") -> str:
        """Id of a new entity called `label`; None leaves it without a label."""
        self.entities += 1
        entity = f"E{self.entities}"
        if label is not None:
            self.labels[entity] = (label, language)
        return entity

    def say(self, subject: str, relation: str, *objects: str) -> None:
        """Add facts between entities."""
        self.facts.setdefault((subject, relation), []).extend(objects)

    def value(self, subject: str, relation: str) -> str:
        """The only object of a functional relation."""
        (found,) = self.facts[subject, relation]
        return found

    def state(self, subject: str, predicate: str, term: str) -> None:
        """Add a raw triple; `term` is already in N-Triples syntax."""
        self.triples.add((iri(subject), iri(predicate), term))

    def word(self) -> str:
        """A new invented word."""
        names = self.spec["names"]
        while True:
            word = "".join(self.rng.choice(names[part]) for part in ("starts", "middles", "ends"))
            if word not in self.words:
                self.words.add(word)
                return word


def add_people(world: World) -> tuple[list[str], list[str]]:
    """Families of the spec; all persons, and those whose father is not in the graph but could be."""
    spec, rng = world.spec, world.rng
    given = list(spec["names"]["given"])
    rng.shuffle(given)
    people: list[str] = []
    married_in: list[str] = []

    def person() -> str:
        people.append(world.entity(f"{given[len(people) % len(given)]} {world.word()}"))
        return people[-1]

    def marry(one: str, other: str) -> None:
        world.say(one, "spouse", other)
        world.say(other, "spouse", one)

    for family in range(spec["families"]):
        mother, father = person(), person()
        marry(mother, father)
        children = [person() for _ in range(spec["children"][family % len(spec["children"])])]
        for child in children:
            world.say(child, "mother", mother)
            world.say(child, "father", father)
        world.say(mother, "child", *children)
        world.say(father, "child", *children)
        if family % 2:
            married_in.append(person())
            marry(children[0], married_in[-1])
    return people, married_in


def add_places(world: World) -> tuple[list[str], list[str]]:
    """Countries and their cities."""
    countries, cities = [], []
    for _ in range(world.spec["countries"]):
        country = world.entity(world.word())
        own = [world.entity(world.word()) for _ in range(world.spec["cities_per_country"])]
        world.say(country, "capital", own[0])
        world.say(own[0], "capital of", country)
        for city in own:
            world.say(city, "country", country)
        countries.append(country)
        cities += own
    return countries, cities


def add_careers(
    world: World, people: Sequence[str], countries: Sequence[str], cities: Sequence[str]
) -> list[str]:
    """Works, positions, organisations, citizenships and birthplaces; the works."""
    spec, rng, names = world.spec, world.rng, world.spec["names"]
    languages = [world.entity(label) for label in names["languages"]]
    hostile = spec["dirt"]["hostile_labels"]
    nouns = rng.sample(names["works"]["nouns"], spec["with_work"] - len(hostile))
    titles = [*hostile, *(f"The {rng.choice(names['works']['adjectives'])} {noun}" for noun in nouns)]
    works = []
    for person, title in zip(rng.sample(people, spec["with_work"]), titles, strict=True):
        works.append(world.entity(title))
        language = rng.choice(languages)
        world.say(person, "notable work", works[-1])
        world.say(works[-1], "author", person)
        world.say(works[-1], "language of work", language)
        world.say(person, "writing language", language)
    for person in rng.sample(people, spec["with_position"]):
        position = world.entity(f"{rng.choice(names['positions'])} of {world.word()}")
        world.say(person, "position held", position)
        world.say(position, "jurisdiction", rng.choice(countries))
        world.say(person, "citizenship", world.value(position, "jurisdiction"))
    for person in rng.sample(people, spec["with_organisation"]):
        organisation = world.entity(f"{rng.choice(names['organisations'])} {world.word()}")
        world.say(person, "director of", organisation)
        world.say(organisation, "director", person)
        world.say(organisation, "headquarters", rng.choice(cities))
        world.say(person, "work location", world.value(organisation, "headquarters"))
    for person in people:
        if (person, "citizenship") not in world.facts:
            world.say(person, "citizenship", rng.choice(countries))
        world.say(person, "place of birth", rng.choice(cities))
    return works


def add_collections(world: World, people: Sequence[str]) -> None:
    """Facts of the relations with several objects per subject, in the shares that the spec gives."""
    rng, shares = world.rng, world.spec["objects"]
    for relation, plan in world.spec["one_to_many"].items():
        pool = [world.entity(label) for label in world.spec["names"][plan["pool"]]]
        for person in rng.sample(people, plan["persons"]):
            (count,) = rng.choices(list(shares), weights=list(shares.values()))
            world.say(person, relation, *rng.sample(pool, count))


def add_literals(world: World, people: Sequence[str], works: Sequence[str]) -> None:
    """Dates of birth and numbers of pages, which no rule and no prompt can use."""
    for person in people:
        day = f"{world.rng.randint(1850, 1990)}-{world.rng.randint(1, 12):02}-{world.rng.randint(1, 28):02}"
        say_literal(world, person, "date of birth", f"{day}T00:00:00Z", "dateTime")
    for work in works:
        say_literal(world, work, "number of pages", str(world.rng.randint(40, 900)), "decimal")


def say_literal(world: World, subject: str, relation: str, value: str, datatype: str) -> None:
    """State a literal as the object of a relation between entities."""
    world.state(ENTITY + subject, DIRECT + world.relations[relation], literal(value, datatype=XSD + datatype))


def add_dirt(
    world: World, people: Sequence[str], married_in: Sequence[str], countries: Sequence[str]
) -> None:
    """Add the irregularities of real graphs, in the amounts of the spec."""
    rng, dirt = world.rng, world.spec["dirt"]
    for _ in range(dirt["only_german"]):
        world.say(rng.choice(people), "award received", world.entity(f"{world.word()}-Preis", "de"))
    for _ in range(dirt["unlabelled"]):
        world.say(rng.choice(people), "award received", world.entity(None))
    for _ in range(dirt["label_is_id"]):
        award = world.entity(None)
        world.labels[award] = (award, "en")
        world.say(rng.choice(people), "award received", award)
    winners = [person for person in people if (person, "award received") in world.facts]
    losers = [person for person in people if person not in winners]
    awards = sorted(
        {a for person in winners for a in world.facts[person, "award received"] if a in world.labels}
    )
    for person in rng.sample(losers, dirt["redirects"]):
        old = world.entity(None)
        world.state(ENTITY + old, SAME_AS, iri(ENTITY + rng.choice(awards)))
        world.say(person, "award received", old)
    for person in rng.sample(people, dirt["literal_values"]):
        say_literal(world, person, "award received", str(rng.randint(1900, 1999)), "decimal")
    for person in rng.sample(married_in, dirt["unknown_values"]):
        hidden = iri(f"{GENID}{rng.getrandbits(64):016x}")
        world.state(ENTITY + person, DIRECT + world.relations["father"], hidden)
    for person in rng.sample(people, dirt["deprecated"]):
        former = rng.choice([c for c in countries if c != world.value(person, "citizenship")])
        statement = f"{BASE}/entity/statement/{person}-{rng.getrandbits(64):016x}"
        relation = world.relations["citizenship"]
        world.state(ENTITY + person, f"{BASE}/prop/{relation}", iri(statement))
        world.state(statement, f"{BASE}/prop/statement/{relation}", iri(ENTITY + former))
        world.state(statement, f"{WIKIBASE}rank", iri(f"{WIKIBASE}DeprecatedRank"))
    for person in rng.sample(people, dirt["only_mul"]):
        world.labels[person] = (world.labels[person][0], "mul")


def generate_world(spec: Mapping[str, Any], seed: int) -> list[str]:
    """Sorted N-Triples lines of the world of `spec` (resources/world.yaml); the same for the same seed."""
    world = World(spec, seed)
    people, married_in = add_people(world)
    countries, cities = add_places(world)
    works = add_careers(world, people, countries, cities)
    add_collections(world, people)
    add_literals(world, people, works)
    add_dirt(world, people, married_in, countries)
    for relation, relation_id in world.relations.items():
        world.state(ENTITY + relation_id, f"{WIKIBASE}directClaim", iri(DIRECT + relation_id))
        world.state(ENTITY + relation_id, LABEL, literal(relation, "en"))
    for (subject, relation), objects in world.facts.items():
        for found in objects:
            world.state(ENTITY + subject, DIRECT + world.relations[relation], iri(ENTITY + found))
    for entity, (label, language) in world.labels.items():
        world.state(ENTITY + entity, LABEL, literal(label, language))
    repeated = len(world.labels) - len({label for label, _ in world.labels.values()})
    if repeated:
        raise ValueError(
            f"the world has {repeated} labels used twice; use other names in resources/world.yaml"
        )
    return [" ".join(triple) + " .\n" for triple in sorted(world.triples)]
