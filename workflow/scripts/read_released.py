"""Read published ConflictEdit and RoundEdit files, check every row and draw the sample."""

from aftershock.cases.released_study import Folder
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import FACTS, PROMPTS, RELATIONS, TAUGHT

with stage(snakemake) as run:
    path, params = snakemake.params.folder, snakemake.params
    folder = Folder.read(path, params.datasets, params.sample, params.seed)
    FACTS.write(folder.fact_table(), snakemake.output.facts, run.provenance)
    RELATIONS.write(folder.relations(), snakemake.output.relations, run.provenance)
    TAUGHT.write(folder.asked(), snakemake.output.asked, run.provenance)
    TAUGHT.write(folder.asked_objects(), snakemake.output.objects, run.provenance)
    PROMPTS.write(folder.prompts(path, "conflict"), snakemake.output.conflict, run.provenance)
    PROMPTS.write(folder.prompts(path, "round"), snakemake.output.round, run.provenance)
    write_text(snakemake.output.findings, folder.findings().to_csv(index=False))
