"""Find logic rules in the sampled facts and measure them, and the relations' functionality."""

from aftershock.kg.rules import Thresholds, mine_rules, suggest
from aftershock.kg.sheets import read_relations, read_rules
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables.graph import RELATIONS, RULES, SAMPLE

with stage(snakemake) as run:
    given, namespace = snakemake.input, snakemake.params.source["namespace"]
    rules, relations = mine_rules(
        SAMPLE.read(given.sample),
        read_relations(given.relations, namespace)["relation_id"].tolist(),
        read_rules(given.rules, namespace),
        Thresholds(**snakemake.params.thresholds),
        snakemake.params.taken,
    )
    RULES.write(rules, snakemake.output.rules, run.provenance)
    RELATIONS.write(relations, snakemake.output.relations, run.provenance)
    suggested = suggest(rules, relations, namespace)
    write_text(snakemake.output.suggested, suggested.to_csv(sep="\t", index=False, float_format="%.6g"))
