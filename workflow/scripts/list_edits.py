"""List the edits of a plan, and what models are asked about them."""

from pathlib import Path

from aftershock.datasets.asked import only_taught
from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.from_cases import case_edits, subjects_of_cases
from aftershock.datasets.edit_files.from_graph import graph_edits
from aftershock.datasets.edit_files.listing import account, edit_table, probe_table, templates_of
from aftershock.datasets.edit_files.reading import read_edits
from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.split import splits_of
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import FACTS, PROMPTS, RULES, SPLIT
from aftershock.tables.models import TAUGHT, VERIFIED
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_PROBES

with stage(snakemake) as run:
    given, params, source = snakemake.input, snakemake.params, snakemake.params.source
    templates = templates_of(PROMPTS.read(given.prompts)) if given.prompts else {}
    if given.file:
        rows = read_edits(Path(given.file), source)
    elif given.cases:
        tables = CASES.read(given.cases), EDITS.read(given.edits), PROBES.read(given.probes)
        rows = case_edits(*tables, templates)
    else:
        facts = FACTS.read(given.facts)
        if given.taught:
            facts = only_taught(facts, TAUGHT.read(given.taught))
        index = FactIndex.from_frames(facts, VERIFIED.read(given.verified), RULES.read(given.rules))
        splits = splits_of(SPLIT.read(given.split))
        rows = graph_edits(index, splits, templates, source["seed"], source["neighbours"])
    among = [CASES.read(path) for path in given.cases_among], [EDITS.read(path) for path in given.edits_among]
    avoided = subjects_of_cases(*among, params.quota_among)
    listed = choose(rows, params.wanted, params.repeats, source.get("cycle", False), avoided)
    SEQUENCE_EDITS.write(edit_table(listed), snakemake.output.edits, run.provenance)
    probes = probe_table(listed, source["paraphrases"], source["neighbours"])
    SEQUENCE_PROBES.write(probes, snakemake.output.probes, run.provenance)
    print(account(listed))
    print(f"{snakemake.wildcards.plan}: {account(listed)}", file=run.console)
