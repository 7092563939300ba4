"""Build one dataset for one model."""

from aftershock.cases.asked import only_taught
from aftershock.cases.build import build
from aftershock.cases.graph_facts import Context, FactIndex
from aftershock.cases.invariants import require
from aftershock.kg.sheets import read_relations
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import (
    CASES,
    EDITS,
    FACTS,
    INSTANCES,
    OBJECT_SCORES,
    PROBES,
    PROMPTS,
    RELATIONS,
    TAUGHT,
    VERIFIED,
)

with stage(snakemake) as run:
    given, settings, name = snakemake.input, snakemake.params.settings, snakemake.wildcards.dataset
    relations = read_relations(given.relations, snakemake.params.namespace)
    facts = FACTS.read(given.facts)
    if given.taught:
        facts = only_taught(facts, TAUGHT.read(given.taught))
    index = FactIndex.from_frames(facts, VERIFIED.read(given.verified))
    context = Context.from_frames(
        index,
        PROMPTS.read(given.prompts),
        RELATIONS.read(given.measured),
        relations,
        settings["functionality"],
        settings["seed"],
    )
    built = build(name, INSTANCES.read(given.instances), OBJECT_SCORES.read(given.objects), context, settings)
    require(name, built.edits, built.probes, index)
    CASES.write(built.cases, snakemake.output.cases, run.provenance)
    EDITS.write(built.edits, snakemake.output.edits, run.provenance)
    PROBES.write(built.probes, snakemake.output.probes, run.provenance)
    write_text(snakemake.output.counts, built.counts.to_csv(index=False))
