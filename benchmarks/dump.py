"""Speed and memory of reading a dump, and the time that it then takes to answer.

    PYTHONPATH=workflow python benchmarks/dump.py SLICE FOLDER --copies 115

SLICE is an N-Triples file (.nt.gz) of Wikidata's namespace; it is repeated with other entity numbers, so that
all triples differ, and kept in FOLDER, about 50 MB per million triples as .nt.gz. All relations of the slice
count as listed: a real dump has more lines that are passed over. Seconds are those of one core.
"""

import argparse
import bz2
import gzip
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aftershock.kg import partitions
from aftershock.kg.blocks import read_blocks
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.dump import DumpReader
from aftershock.kg.dump_source import DumpSource
from aftershock.kg.graph import GRAPHS
from aftershock.kg.labels import find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.sample import sample_facts
from aftershock.kg.sheets import kept_rules, one_to_many_relations

WIKIDATA = GRAPHS["wikidata"]
RESOURCES = Path(__file__).parents[1] / "resources"
OPENERS = {"gz": gzip.open, "bz2": bz2.open}


def copy(slice_: Path, dump: Path, copies: int) -> dict[str, Any]:
    """Write `copies` of the slice, the number of each entity preceded by that of the copy."""
    text = gzip.decompress(slice_.read_bytes())
    template = re.sub(rb"entity/Q(\d+)>", lambda match: b"entity/Q\x00" + match[1].zfill(9) + b">", text)
    relation_ids = {found[1].decode() for found in re.finditer(rb"/prop/direct/(P\d+)> <", text)}
    dump.with_suffix(".json").write_text(json.dumps(sorted(relation_ids)))
    with OPENERS[dump.suffix[1:]](dump, "wb", compresslevel=6) as file:
        for number in range(1, copies + 1):
            file.write(template.replace(b"\x00", str(number).encode()))
    return {"relations": len(relation_ids)}


def timed(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds of the processor and of the clock that a call takes, and its result."""
    start, clock = time.process_time(), time.perf_counter()
    result = call()
    seconds = {
        "cpu": round(time.process_time() - start, 2),
        "clock": round(time.perf_counter() - clock, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return seconds, result


def decode(dump: Path, _: list[str]) -> dict[str, Any]:
    """Time to decompress only."""
    return timed(lambda: sum(map(len, read_blocks(dump))))[0]


def load(dump: Path, relation_ids: list[str]) -> dict[str, Any]:
    """Time to read the dump and to sort what it says."""
    folder = dump.with_suffix(".tables")
    work = folder.with_name(f".{folder.name}.reading")
    work.mkdir()
    reading, found = timed(
        lambda: partitions._read(dump, work, DumpReader(WIKIDATA, relation_ids), relation_ids)
    )
    raw = sum(file.stat().st_size for file in work.rglob("*.parquet"))
    sorting, _ = timed(lambda: partitions._sort(work, relation_ids))
    described = {"format": partitions.FORMAT, "namespace": "wikidata", "relations": relation_ids, **found}
    (work / partitions.DESCRIPTION).write_text(json.dumps(described))
    work.rename(folder)
    made = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    return {
        "triples": found["lines"],
        "triples_per_second": round(found["lines"] / reading["cpu"]),
        "read": reading,
        "sort": sorting,
        "dump_mb": dump.stat().st_size >> 20,
        "raw_mb": raw >> 20,
        "tables_mb": made >> 20,
    }


def ask(dump: Path, relation_ids: list[str]) -> dict[str, Any]:
    """Time of every kind of question."""
    times: dict[str, Any] = {}
    with DumpSource(dump.with_suffix(".tables"), WIKIDATA) as source:
        seconds, (sample, _) = timed(lambda: sample_facts(source, relation_ids, 1_000_000, 0))
        times["sample"] = {**seconds, "rows": len(sample)}
        for rule in kept_rules(RESOURCES, "wikidata"):
            logic = LogicRule.parse(rule)
            if not {relation_id for _, relation_id, _ in logic.facts} <= set(relation_ids):
                continue
            seconds, (found, _) = timed(lambda logic=logic: find_combinations(source, logic, 50_000, 0))
            times[rule] = {**seconds, "rows": len(found), "of": source.count_instances(logic)}
        for relation_id in one_to_many_relations(RESOURCES, "wikidata"):
            if relation_id in relation_ids:
                seconds, (found, _) = timed(lambda id_=relation_id: find_objects(source, id_))
                times[f"1-N@{relation_id}"] = {**seconds, "rows": len(found)}
        entities = set(sample["subject_id"]) | set(sample["object_id"])
        seconds, labels = timed(lambda: find_labels(source, entities))
        times["labels"] = {**seconds, "rows": len(labels)}
    return times


STEPS = {"decode": decode, "load": load, "ask": ask}


def main() -> None:
    """Take each step in a process of its own, whose peak memory is then its own too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slice", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=115)
    parser.add_argument("--ending", choices=sorted(OPENERS), default="gz")
    parser.add_argument("--step", choices=("copy", *STEPS))
    given = parser.parse_args()
    dump = given.folder / f"copies-{given.copies}.nt.{given.ending}"
    if given.step == "copy":
        print(json.dumps(copy(given.slice, dump, given.copies)), flush=True)
    elif given.step:
        relation_ids = json.loads(dump.with_suffix(".json").read_text())
        print(json.dumps({given.step: STEPS[given.step](dump, relation_ids)}), flush=True)
    else:
        for step in (*([] if dump.exists() else ["copy"]), *STEPS):
            subprocess.run([sys.executable, *sys.argv, "--step", step], check=True)


if __name__ == "__main__":
    main()
