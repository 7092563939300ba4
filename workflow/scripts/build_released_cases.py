"""Turn the sampled rows of a published file into cases for one model."""

from aftershock.datasets.graph_facts import Context, FactIndex
from aftershock.datasets.locality import texts_to_ask
from aftershock.datasets.released_study import Folder, build_released
from aftershock.kg.sheets import read_relations
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import FACTS, PROMPTS, RELATIONS
from aftershock.tables.models import OBJECT_SCORES, VERIFIED

with stage(snakemake) as run:
    given, params, name = snakemake.input, snakemake.params, snakemake.wildcards.dataset
    folder = Folder.read(params.folder, [name], params.sample, params.seed)
    context = Context.from_frames(
        FactIndex.from_frames(FACTS.read(given.facts), VERIFIED.read(given.verified)),
        PROMPTS.read(given.prompts),
        RELATIONS.read(given.measured),
        read_relations(given.relations, params.namespace),
        params.functionality,
        params.seed,
    )
    texts = texts_to_ask(given.texts) if given.texts else None
    built = build_released(name, folder, OBJECT_SCORES.read(given.objects), context, texts)
    CASES.write(built.cases, snakemake.output.cases, run.provenance)
    EDITS.write(built.edits, snakemake.output.edits, run.provenance)
    PROBES.write(built.probes, snakemake.output.probes, run.provenance)
    write_text(snakemake.output.counts, built.counts.to_csv(index=False))
