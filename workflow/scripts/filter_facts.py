"""Tell the facts, rule instances and one-to-many keys that can become cases from the others."""

import logging

import pandas as pd

from aftershock.kg.filters import (
    Limits,
    Names,
    complete,
    filter_facts,
    filter_instances,
    filter_objects,
    sample_keys,
)
from aftershock.kg.graph import find_graph
from aftershock.kg.labels import Redirections
from aftershock.kg.screen import read_screen
from aftershock.kg.sheets import read_relations
from aftershock.kg.summary import summarize
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import provenance_of
from aftershock.tables.graph import (
    COMBINATIONS,
    FACTS,
    INSTANCES,
    LABEL_SCORES,
    LABELS,
    LIVING,
    OBJECTS,
    RELATIONS,
    RULES,
    SAMPLE,
    TRUE_OBJECTS,
)

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    graph = find_graph(params.source["namespace"])
    labels = LABELS.read(given.labels)
    scores = LABEL_SCORES.read(given.scores) if given.scores else None
    screen = read_screen(given.words or None, given.screen, scores, params.threshold)
    living = LIVING.read(given.living)["entity_id"] if given.living else ()
    names, moved = Names(labels, graph, screen, living), Redirections(labels)
    rules = RULES.read(given.rules)
    combinations = moved.follow(COMBINATIONS.read(*given.combinations))
    read = [moved.follow(OBJECTS.read(path)) for path in given.objects]
    objects = dict(zip(params.one_to_many, read, strict=True))
    every = pd.concat([OBJECTS.empty(), *objects.values()], ignore_index=True)
    beside = moved.follow(TRUE_OBJECTS.read(given.true_objects))
    sample = moved.follow(SAMPLE.read(given.sample))
    found = complete(sample, combinations, every, params.head_holds, beside)
    sheet = read_relations(given.sheet, params.source["namespace"])
    prompts = dict(zip(sheet["relation_id"], sheet["prompt"], strict=True))
    facts = filter_facts(found, names, prompts, beside)
    instances = filter_instances(
        combinations,
        facts,
        names,
        Limits(params.max_per_subject, params.max_per_tied_fact, params.unique_answers, params.seed),
        rules.loc[rules["status"] == "keep", "rule"].tolist(),
    )
    usable, dropped = filter_objects(every, names, prompts)
    kept = sample_keys(usable, params.max_keys, params.seed, graph)
    left_out = {
        name: provenance_of(path)["left_out"]
        for names_, paths in ((params.rules, given.combinations), (params.one_to_many, given.objects))
        for name, path in zip(names_, paths, strict=True)
    }
    summary = summarize(rules, RELATIONS.read(given.relations), instances, objects, kept, names, left_out)
    FACTS.write(facts, made.facts, {**run.provenance, "redirected": moved.rows})
    INSTANCES.write(instances, made.instances, run.provenance)
    OBJECTS.write(kept, made.objects, {**run.provenance, "left_out": dropped})
    write_text(made.screened, screen.sheet(names.labels[entity_id] for entity_id in names.faults))
    write_text(made.summary, summary.to_csv(index=False))
    logging.info("rows with a redirected entity, which its target replaces: %d", moved.rows)
    logging.info("facts left out: %s", facts["reason"].value_counts().to_dict())
    logging.info("instances left out: %s", instances["reason"].value_counts().to_dict())
    logging.info("objects left out: %s", dict(dropped))
