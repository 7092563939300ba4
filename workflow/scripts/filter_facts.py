"""Tell the facts, rule instances and one-to-many keys that can become cases from the others."""

import logging
from pathlib import Path

import pandas as pd

from aftershock.kg.filters import Names, filter_facts, filter_instances, filter_objects, summarize
from aftershock.kg.graph import find_graph
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import COMBINATIONS, FACTS, INSTANCES, LABELS, OBJECTS, RULES, SAMPLE

with stage(snakemake) as run:
    given, made = snakemake.input, snakemake.output
    names = Names(LABELS.read(given.labels), find_graph(snakemake.params.source["namespace"]))
    objects = {Path(path).stem: OBJECTS.read(path) for path in given.objects}  # one file per relation
    facts = filter_facts(SAMPLE.read(given.sample), names)
    instances = filter_instances(COMBINATIONS.read(*given.combinations), facts, names)
    kept, dropped = filter_objects(pd.concat([OBJECTS.empty(), *objects.values()], ignore_index=True), names)
    summary = summarize(RULES.read(given.rules), instances, objects, kept, names)
    FACTS.write(facts, made.facts, run.provenance)
    INSTANCES.write(instances, made.instances, run.provenance)
    OBJECTS.write(kept, made.objects, {**run.provenance, "left_out": dropped})
    write_text(made.summary, summary.to_csv(index=False))
    logging.info("facts left out: %s", facts["reason"].value_counts().to_dict())
    logging.info("instances left out: %s", instances["reason"].value_counts().to_dict())
    logging.info("objects left out: %s", dict(dropped))
