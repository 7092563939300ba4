"""Build one dataset for one model."""

import gc

from aftershock.datasets.asked import only_taught
from aftershock.datasets.build import build
from aftershock.datasets.graph_facts import Context, FactIndex
from aftershock.datasets.invariants import require
from aftershock.datasets.locality import texts_to_ask
from aftershock.datasets.shortfall import shortfalls
from aftershock.datasets.split import splits_of
from aftershock.kg.sheets import read_relations
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import FACTS, INSTANCES, PROMPTS, RELATIONS, RULES, SPLIT
from aftershock.tables.models import OBJECT_SCORES, TAUGHT, VERIFIED

with stage(snakemake) as run:
    gc.disable()  # looking for cycles among millions of facts that all stay takes a third of the time
    given, settings, name = snakemake.input, snakemake.params.settings, snakemake.wildcards.dataset
    relations = read_relations(given.relations, snakemake.params.namespace)
    facts = FACTS.read(given.facts)
    if given.taught:
        facts = only_taught(facts, TAUGHT.read(given.taught))
    index = FactIndex.from_frames(facts, VERIFIED.read(given.verified), RULES.read(given.rules))
    context = Context.from_frames(
        index,
        PROMPTS.read(given.prompts),
        RELATIONS.read(given.measured),
        relations,
        settings["functionality"],
        settings["seed"],
    )
    splits = splits_of(SPLIT.read(given.split))
    instances, scores = INSTANCES.read(given.instances), OBJECT_SCORES.read(given.objects)
    texts = texts_to_ask(given.texts) if given.texts else None
    built = build(name, instances, scores, splits, context, settings, texts)
    require(name, built.edits, built.probes, index)
    CASES.write(built.cases, snakemake.output.cases, run.provenance)
    EDITS.write(built.edits, snakemake.output.edits, run.provenance)
    PROBES.write(built.probes, snakemake.output.probes, run.provenance)
    for line in shortfalls(name, built.counts, settings["quotas"]):
        print(line)
        print(line, file=run.console)
    write_text(snakemake.output.counts, built.counts.to_csv(index=False))
