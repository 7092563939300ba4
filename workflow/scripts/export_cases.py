"""Write one split of all datasets of a model in the published format."""

from aftershock.datasets.build import Dataset
from aftershock.datasets.export import NOTICE, export, notice
from aftershock.datasets.validate import findings, read_folder, render
from aftershock.kg.sheets import read_relations
from aftershock.output import whole_folder
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS

with stage(snakemake):
    given, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    tables = zip(params.datasets, given.cases, given.edits, given.probes, strict=True)
    datasets = {
        name: Dataset(CASES.read(cases), EDITS.read(edits), PROBES.read(probes))
        for name, cases, edits, probes in tables
    }
    relations = read_relations(given.relations, params.namespace)
    with whole_folder(snakemake.output[0]) as folder:
        sizes = export(folder, datasets, wildcards.split, relations, PROMPTS.read(given.prompts))
        page = notice(sizes, wildcards.split, wildcards.kg, wildcards.model, params.about)
        (folder / NOTICE).write_text(page, encoding="utf-8")
        print(render(findings(*read_folder(folder))))
