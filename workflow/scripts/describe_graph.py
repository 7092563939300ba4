"""Write the datasheet of a mined graph."""

import json
from pathlib import Path

import pandas as pd

from aftershock.kg.datasheet import Mined, describe_graph, file_origin, packages_origin, time_of
from aftershock.kg.filters import Names, filter_objects
from aftershock.kg.graph import find_graph
from aftershock.kg.labels import Redirections
from aftershock.kg.sheets import read_relations
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import provenance_of, rows_of
from aftershock.tables.graph import FACTS, INSTANCES, LABELS, OBJECTS, RELATIONS, RULES

with stage(snakemake):
    given, params = snakemake.input, snakemake.params
    namespace, kg = params.source["namespace"], snakemake.wildcards.kg
    read_at = time_of(given.sample)
    account = json.loads(Path(given.account).read_text(encoding="utf-8")) if given.account else None
    if given.file:
        origin = [*(packages_origin(account) if account else ()), *file_origin(given.file, read_at)]
    else:
        origin = [f"service: {params.source['url']}", f"facts read: {read_at}"]
    mined_by = dict(
        zip((*params.rules, *params.one_to_many), (*given.combinations, *given.found), strict=True)
    )
    labels, sheet = LABELS.read(given.labels), read_relations(given.sheet, namespace)
    prompts = dict(zip(sheet["relation_id"], sheet["prompt"], strict=True))
    names, moved = Names(labels, find_graph(namespace)), Redirections(labels)
    before, after = (given.sample, given.rules), (given.true_objects, given.labels, given.facts)
    files = *before, *mined_by.values(), *after, given.instances
    stages = {Path(path).stem: path for path in files}
    mined = Mined(
        sheet=sheet,
        relations=RELATIONS.read(given.relations),
        rules=RULES.read(given.rules),
        facts=FACTS.read(given.facts),
        instances=INSTANCES.read(given.instances),
        summary=pd.read_csv(given.summary),
        stages={name: {**provenance_of(path), "rows": rows_of(path)} for name, path in stages.items()},
        left_out={name: provenance_of(path)["left_out"] for name, path in mined_by.items()},
        dropped={
            name: filter_objects(moved.follow(OBJECTS.read(path)), names, prompts)[1]
            for name, path in zip(params.one_to_many, given.found, strict=True)
        },
    )
    settings = {"namespace": namespace, "mining": params.mining}
    write_text(snakemake.output[0], describe_graph(kg, origin, settings, mined, account))
