"""Tell the facts, rule instances and one-to-many keys that can become cases from the others."""

from aftershock.kg.filters import Names, filter_facts, filter_instances, filter_objects, summarize
from aftershock.kg.graph import find_graph
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import COMBINATIONS, FACTS, INSTANCES, LABELS, OBJECTS, RULES, SAMPLE

with stage(snakemake) as run:
    given, made = snakemake.input, snakemake.output
    names = Names(LABELS.read(given.labels), find_graph(snakemake.params.source["namespace"]))
    objects = OBJECTS.read(*given.objects)
    facts = filter_facts(SAMPLE.read(given.sample), names)
    instances = filter_instances(COMBINATIONS.read(*given.combinations), facts, names)
    kept, dropped = filter_objects(objects, names)
    summary = summarize(instances, objects, kept, RULES.read(given.rules), names)
    FACTS.write(facts, made.facts, run.provenance)
    INSTANCES.write(instances, made.instances, run.provenance)
    OBJECTS.write(kept, made.objects, {**run.provenance, "left_out": dropped})
    write_text(made.summary, summary.to_csv(index=False))
    print(
        facts["reason"].value_counts(), instances.groupby("rule")["reason"].value_counts(), dropped, sep="\n"
    )
