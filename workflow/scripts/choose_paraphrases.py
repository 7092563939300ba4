"""Choose among candidate paraphrases, and suggest them for the reviewed sheet."""

from aftershock.kg.sheets import PARAPHRASES as WANTED
from aftershock.kg.sheets import read_paraphrases, read_relations
from aftershock.output import write_text
from aftershock.paraphrases.asking import relations_to_ask
from aftershock.paraphrases.ranking import choose, suggestions
from aftershock.stage import stage
from aftershock.tables.graph import PARAPHRASE_CANDIDATES, PARAPHRASE_SCORES, PARAPHRASES
from aftershock.text_files import sheet_cell

with stage(snakemake) as run:
    given, params, namespace = snakemake.input, snakemake.params, snakemake.params.source["namespace"]
    relations = relations_to_ask(
        read_relations(given.relations, namespace),
        read_paraphrases(given.paraphrases, namespace),
        WANTED,
        params.relations,
    )
    candidates = PARAPHRASE_CANDIDATES.read(given.candidates)
    scores = PARAPHRASE_SCORES.read(given.scores) if given.scores else None
    chosen = choose(relations, candidates, WANTED, scores, params.ranking_model)
    PARAPHRASES.write(chosen, snakemake.output.table, run.provenance)
    rows = suggestions(chosen, namespace, params.origin)
    lines = [rows.columns, *rows.itertuples(index=False, name=None)]
    lines = ["\t".join(map(sheet_cell, row)) for row in lines]
    write_text(snakemake.output.sheet, "\n".join(lines) + "\n")
