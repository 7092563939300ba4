"""Seconds and memory of what must stay quick at a study's size, in one process and one thread.

    python benchmarks/limits.py SLICE

SLICE has N-Triples, such as the slice of Wikidata. All combinations of the largest body through the endpoint,
of which 50 000 are kept, should take less than ten seconds, and rules mined from the facts of every relation
less than five, with 500 MiB.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

import pandas as pd

from aftershock.kg.pages import count, fetch
from aftershock.kg.queries import Pattern
from aftershock.kg.rules import Thresholds, mine_rules
from aftershock.kg.sampling import hash_limit, iri_hash
from aftershock.kg.source import connect
from aftershock.kg.store import load_triples
from test_kg_slice import all_facts

STAR = Pattern(("x", "y", "z"), "?x wdt:P27 ?y . ?x wdt:P106 ?z .")  # the largest body
KEPT = 50_000


@contextmanager
def measured(name: str) -> Iterator[None]:
    """Print the computing and clock seconds of a step, and the largest memory of this process so far."""
    began, clock = time.process_time(), time.perf_counter()
    yield
    spent, passed = time.process_time() - began, time.perf_counter() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:40} {spent:6.2f} s computing  {passed:6.2f} s passed  {peak:6.0f} MiB")


def mine_file(file: Path, folder: Path) -> None:
    """Fetch the largest body's combinations, then mine rules of every relation."""
    load_triples(file, folder / "store")
    with (
        measured("50 000 combinations"),
        connect({"namespace": "wikidata"}, folder / "store") as source,
    ):
        client = source.client
        total = count(client, STAR)
        limit = hash_limit(KEPT, total)
        fetch(
            client,
            STAR,
            by=("y", "x"),
            total=total,
            keep=lambda ids: iri_hash(0, *map(client.graph.iri, ids)) < limit,
        )
    facts, none = all_facts(file), pd.DataFrame(columns=["rule", "status", "reason"])
    with measured(f"rules of {facts['relation_id'].nunique()} relations"):
        mine_rules(facts, sorted(facts["relation_id"].unique()), none, Thresholds(min_pca_confidence=0.0))


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    with TemporaryDirectory() as folder:
        mine_file(Path(sys.argv[1]), Path(folder))


if __name__ == "__main__":
    main()
