"""The atlas: facts about countries, cities, languages and currencies from the data of three Python packages.

A fact is kept where it is a single clear one: where two packages tell it, they must agree;
resources/atlas.yaml lists what people have looked at and left out, and why. A name that cities of several
countries bear is left out unless one of them is by far the largest, so that a city's name says which city is
meant. Everything that is left out is counted with its reason.

`sources` reads the packages, `places` takes countries and cities from them and `people` languages, currencies
and demonyms; a `draft` collects them.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aftershock.kg.atlas.draft import Atlas
from aftershock.kg.atlas.people import add_currencies, add_demonyms, add_languages
from aftershock.kg.atlas.places import add_aliases, add_cities, add_continents, add_neighbours
from aftershock.kg.atlas.sources import Sources
from aftershock.kg.graph import find_graph
from aftershock.kg.triples import LABEL, WIKIBASE, iri, literal

ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"
STEPS = (
    add_aliases,
    add_cities,
    add_continents,
    add_neighbours,
    add_languages,
    add_currencies,
    add_demonyms,
)


def build_atlas(sources: Sources, spec: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the sorted N-Triples lines of an atlas, and an account of its facts and of what is left out.

    `spec` are the contents of resources/atlas.yaml.
    """
    atlas = Atlas(sources, spec)
    for add in STEPS:
        add(atlas)
    kept, left_out = Counter(relation for _, relation, _ in atlas.facts), +atlas.left_out
    account = {
        "packages": dict(sources.packages),
        "kept": {relation: kept[relation] for relation in spec["relations"]},
        "left_out": {
            name: {reason: n for (of, reason), n in sorted(left_out.items()) if of == name}
            for name in dict.fromkeys(name for name, _ in sorted(left_out))
        },
    }
    return _lines(atlas), account


def _lines(atlas: Atlas) -> list[str]:
    """The facts and names of an atlas as sorted N-Triples; ids follow the order of kinds and codes."""
    graph, relations = find_graph("atlas"), atlas.spec["relations"]
    used = {entity for subject, _, found in atlas.facts for entity in (subject, found)}
    iris = {entity: iri(graph.iri(f"A{number}")) for number, entity in enumerate(sorted(used), 1)}
    triples = {(iris[s], iri(graph.properties + relations[r]), iris[o]) for s, r, o in atlas.facts}
    for name, relation_id in relations.items():
        subject = iri(graph.iri(relation_id))
        triples.add((subject, iri(f"{WIKIBASE}directClaim"), iri(graph.properties + relation_id)))
        triples.add((subject, iri(LABEL), literal(name, "en")))
    for entity, subject in iris.items():
        label = atlas.labels[entity]
        triples.add((subject, iri(LABEL), literal(label, "en")))
        triples |= {(subject, iri(ALIAS), literal(name)) for name in atlas.aliases[entity] if name != label}
    return [" ".join(triple) + " .\n" for triple in sorted(triples)]
