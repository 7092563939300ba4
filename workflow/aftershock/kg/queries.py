"""The queries, in standard SPARQL 1.1 and without PREFIX lines: only those differ between graphs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aftershock.kg.graph import Statements
from aftershock.kg.logic import LogicRule

PROPERTY = "p"  # the variable that stands for a property; all others but the next two stand for entities
STATEMENT = "node"  # the variable that stands for a statement
VALUE_PROPERTY = "v"  # the variable that stands for a property from a statement to its value


@dataclass(frozen=True)
class Pattern:
    """A graph pattern over variables; its solutions are distinct."""

    variables: tuple[str, ...]
    where: str

    def among(self, variable: str, entity_ids: Sequence[str]) -> "Pattern":
        """The solutions in which `variable` is one of some entities."""
        values = " ".join(f"wd:{entity_id}" for entity_id in entity_ids)
        return replace(self, where=f"VALUES ?{variable} {{ {values} }} {self.where}")

    def hashed_below(self, seed: int, limit: str, variables: Sequence[str]) -> "Pattern":
        """The solutions whose seeded hash of `variables` starts with hexadecimal digits below `limit`."""
        parts = ", ".join(f"STR(?{variable})" for variable in variables)
        condition = f'SUBSTR(MD5(CONCAT("{seed}", {parts})), 1, {len(limit)}) < "{limit}"'
        return replace(self, where=f"{self.where} FILTER({condition})")

    def bucket(self, variables: Sequence[str], digits: str) -> "Pattern":
        """The solutions whose hash of `variables` starts with these hexadecimal digits.

        Blank nodes have no text to be hashed and count as empty.
        """
        parts = ", ".join(f'COALESCE(STR(?{variable}), "")' for variable in variables)
        return replace(self, where=f'{self.where} FILTER(STRSTARTS(MD5(CONCAT({parts}, "")), "{digits}"))')

    @property
    def rows(self) -> str:
        """Query for the solutions."""
        return f"SELECT {_list(self.variables)} WHERE {{ {self.where} }}"

    @property
    def total(self) -> str:
        """Query for the number of solutions."""
        return f"SELECT (COUNT(*) AS ?rows) WHERE {{ {self.where} }}"

    def counts(self, variable: str) -> str:
        """Query for the number of solutions per value of `variable`."""
        return f"SELECT ?{variable} (COUNT(*) AS ?rows) WHERE {{ {self.where} }} GROUP BY ?{variable}"


def facts(relation_id: str) -> Pattern:
    """Subject and object of every truthy fact of a relation."""
    return Pattern(("s", "o"), f"?s wdt:{relation_id} ?o .")


def neighbourhood(relation_ids: Sequence[str]) -> Pattern:
    """Subject, property and object of every truthy fact of some relations."""
    # Not VALUES: beside the VALUES of subjects, Oxigraph takes forty times as long.
    properties = ", ".join(f"wdt:{relation_id}" for relation_id in relation_ids)
    return Pattern(("s", PROPERTY, "o"), f"?s ?{PROPERTY} ?o . FILTER(?{PROPERTY} IN ({properties}))")


def of_every_rank(relation_ids: Sequence[str], prefixes: Statements) -> Pattern:
    """Subject, statement, property and object of every statement of some relations, whatever its rank.

    The statement is asked for as two of them can have the same value.
    """
    claims, values = (
        ", ".join(f"<{prefix}{relation_id}>" for relation_id in relation_ids) for prefix in prefixes[:2]
    )
    return Pattern(
        ("s", STATEMENT, VALUE_PROPERTY, "o"),
        f"?s ?claim ?{STATEMENT} . FILTER(?claim IN ({claims})) "
        f"?{STATEMENT} ?{VALUE_PROPERTY} ?o . FILTER(?{VALUE_PROPERTY} IN ({values}))",
    )


def instances(rule: LogicRule) -> Pattern:
    """The entities for which body and head of `rule` hold.

    That they are distinct is not asked here: comparing them takes an engine longer than finding them.
    """
    variables = ("x", "y", "z")[: len(rule.body) + 1]
    triples = " ".join(f"?{s} wdt:{relation_id} ?{o} ." for s, relation_id, o in rule.facts)
    return Pattern(variables, triples)


def names(entity_ids: Sequence[str], entities: str) -> str:
    """Query for labels and redirects of entities, whose IRIs start with `entities`.

    One row each, so that a missing one is seen. Labels are compared as text, without their language.
    """
    values = " ".join(f"wd:{entity_id}" for entity_id in entity_ids)
    return (
        "SELECT ?e (MIN(STR(?english)) AS ?en) (MIN(STR(?common)) AS ?mul) (MIN(STR(?other)) AS ?target) "
        f"WHERE {{ VALUES ?e {{ {values} }} "
        'OPTIONAL { ?e rdfs:label ?english . FILTER(LANG(?english) = "en") } '
        'OPTIONAL { ?e rdfs:label ?common . FILTER(LANG(?common) = "mul") } '
        f'OPTIONAL {{ ?e owl:sameAs ?other . FILTER(STRSTARTS(STR(?other), "{entities}")) }} '
        "} GROUP BY ?e"
    )


def lives(entity_ids: Sequence[str], human: tuple[str, str], death: str) -> str:
    """Query for how often entities are stated to be human and to have died: one row each."""
    values = " ".join(f"wd:{entity_id}" for entity_id in entity_ids)
    relation_id, kind = human
    return (
        f"SELECT ?e (COUNT(?kind) AS ?human) (COUNT(?died) AS ?dead) WHERE {{ VALUES ?e {{ {values} }} "
        f"OPTIONAL {{ ?e wdt:{relation_id} ?kind . FILTER(?kind = wd:{kind}) }} "
        f"OPTIONAL {{ ?e wdt:{death} ?died }} "
        "} GROUP BY ?e"
    )


def _list(variables: Sequence[str]) -> str:
    return " ".join(f"?{variable}" for variable in variables)
