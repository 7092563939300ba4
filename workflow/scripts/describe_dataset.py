"""Write the datasheet of a built dataset."""

from pathlib import Path

import pandas as pd

from aftershock.dataset_figure import draw_dataset
from aftershock.datasets.datasheet import Built, describe_dataset
from aftershock.figures import save
from aftershock.kg.datasheet import time_of
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.tables import provenance_of
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import FACTS, INSTANCES, SPLIT
from aftershock.tables.models import OBJECT_SCORES
from aftershock.text_files import read_cells

with stage(snakemake):
    given, wildcards = snakemake.input, snakemake.wildcards
    rows = read_cells(Path(given.screened).read_bytes(), given.screened)
    built = Built(
        wildcards.dataset,
        cases=CASES.read(given.cases),
        edits=EDITS.read(given.edits),
        probes=PROBES.read(given.probes),
        counts=pd.read_csv(given.counts, keep_default_na=False),
        split=SPLIT.read(given.split),
        instances=INSTANCES.read(given.instances),
        scores=OBJECT_SCORES.read(given.objects),
        known=pd.read_csv(given.known),
        facts=FACTS.read(given.facts),
        screened=pd.DataFrame(rows[1:], columns=rows[0]),
        provenance=provenance_of(given.cases),
    )
    graph = Path(given.graph).read_text(encoding="utf-8")
    page = describe_dataset(built, wildcards.model, time_of(given.cases), snakemake.params.settings, graph)
    figure = draw_dataset(built, wildcards.model, snakemake.params.settings)
    save(figure, Path(snakemake.output.page).parent, wildcards.dataset)
    write_text(snakemake.output.page, page)
