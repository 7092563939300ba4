"""An atlas under construction: entities with their names, facts, and counts of omissions by reason."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from aftershock.kg.atlas.sources import Sources

DISAGREE = "the packages disagree"
ONE_ONLY = "only one package tells it"
NOT_TOLD = "no package tells it"
UNKNOWN = "no package explains its code or name"
SEVERAL = "more than one answer"
REVIEWED = "looked at and left out"
SMALL = "few inhabitants"
DISSOLVED = "no more"


class Entity(NamedTuple):
    """An entity before it gets its id: its kind, and its code within the kind."""

    kind: str
    code: str


def folded(name: str) -> str:
    """Return a name without case, accents, signs and spaces, and with `Saint` for `St`."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c)).split()
    return "".join("saint" if word == "st" else word for word in words)


class Atlas:
    """A graph in the making from `sources`, by `spec`, the contents of resources/atlas.yaml."""

    def __init__(self, sources: Sources, spec: Mapping[str, Any]) -> None:
        self.sources, self.spec = sources, spec
        self.facts: set[tuple[Entity, str, Entity]] = set()
        self.labels: dict[Entity, str] = {}
        self.aliases: dict[Entity, set[str]] = defaultdict(set)
        self.left_out: Counter[tuple[str, str]] = Counter()
        self.countries = self._countries()

    def entity(self, kind: str, code: str, label: str) -> Entity:
        """Return an entity, labelled `label` from now on."""
        found = Entity(kind, code)
        self.labels[found] = label.strip()
        return found

    def state(self, subject: Entity, relation: str, found: Entity) -> None:
        """State a fact."""
        self.facts.add((subject, relation, found))

    def leave_out(self, name: str, reason: str, number: int = 1) -> None:
        """Count what is left out of a relation or of the countries."""
        self.left_out[name, reason] += number

    def is_reviewed(self, relation: str, code: str) -> bool:
        """Return True, and count it, where reviewers left out a country's fact."""
        found = code in self.spec["left_out"].get(relation, {})
        if found:
            self.leave_out(relation, REVIEWED)
        return found

    def dominates(self, number: int, others: list[int]) -> bool:
        """Return True if `number` inhabitants are far more than those of all others of the same name."""
        return number >= self.spec["dominance"] * max(others, default=0)

    @cached_property
    def cities(self) -> list[tuple[Entity, Entity]]:
        """The cities that are stated, each with its country, sorted."""
        return sorted((city, country) for city, r, country in self.facts if r == "country of a city")

    def cities_in(self, country: Entity) -> list[Entity]:
        """Return the cities that are stated of a country."""
        return [city for city, of in self.cities if of == country]

    def _countries(self) -> dict[str, Entity]:
        """The countries and territories of today with enough inhabitants, by ISO code."""
        found, least = {}, self.spec["countries"]["least_population"]
        for code, country in sorted(self.sources.countries.items()):
            reason = DISSOLVED if code in self.sources.dissolved else None
            reason = reason or (SMALL if country["population"] < least else None)
            if reason:
                self.leave_out("countries", reason)
            else:
                found[code] = self.entity("country", code, country["name"].removeprefix("The "))
        return found
