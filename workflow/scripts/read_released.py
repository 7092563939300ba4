"""Read published ConflictEdit and RoundEdit files, check every row and draw the sample."""

from aftershock.datasets.released import PROMPT_FILES, read_prompts
from aftershock.datasets.released_study import Folder
from aftershock.datasets.validate import findings
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, PROMPTS, RELATIONS
from aftershock.tables.models import TAUGHT

with stage(snakemake) as run:
    path, params = snakemake.params.folder, snakemake.params
    folder = Folder.read(path, params.datasets, params.sample, params.seed)
    FACTS.write(folder.fact_table(), snakemake.output.facts, run.provenance)
    RELATIONS.write(folder.relations(), snakemake.output.relations, run.provenance)
    TAUGHT.write(folder.asked(), snakemake.output.asked, run.provenance)
    TAUGHT.write(folder.asked_objects(), snakemake.output.objects, run.provenance)
    PROMPTS.write(folder.prompts(path, "conflict"), snakemake.output.conflict, run.provenance)
    PROMPTS.write(folder.prompts(path, "round"), snakemake.output.round, run.provenance)
    prompts = {kind: read_prompts(path, kind)[0] for kind in PROMPT_FILES}
    write_text(snakemake.output.findings, findings(folder.files, prompts).to_csv(index=False))
