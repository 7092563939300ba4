"""Collect second moments of a model on a sample of text, for every layer that an editor needs.

Rule attention_moments runs it too, for what enters the attentions' output projections.
"""

from pathlib import Path

from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import (
    add_up,
    describe,
    load_sums,
    save_moments,
    save_sums,
    sha256_of_weights,
)
from aftershock.lm.texts.documents import sample_documents, sha256_of_documents, text_files
from aftershock.lm.texts.special_tokens import spelled_remark
from aftershock.page.moments import remarks
from aftershock.stage import stage
from aftershock.tables.models import MOMENTS

with stage(snakemake) as run:
    given, params, sample = snakemake.input, snakemake.params, snakemake.params.sample
    files = text_files(given.text)
    documents = sample_documents(files, sample["column"], sample["documents"], sample["seed"])
    lm = LanguageModel.load(given.weights, run.device, **params.reader)
    if remark := spelled_remark(lm, documents, "documents"):
        print(remark)
        print(f"{snakemake.wildcards.model}: {remark}", file=run.console)
    hashes = {"weights_sha256": sha256_of_weights(given.weights)}
    hashes["text_sha256"] = sha256_of_documents(documents)
    key = {
        **hashes,
        "layers": str(params.layers),
        "reader": str(params.reader),
        "sample": str(sample),
        "code": params.code,
        "device": run.device,
    }

    made = Path(snakemake.output.moments)
    part = made.with_name(f".{made.stem}.sums.safetensors")
    sums = add_up(
        lm,
        documents,
        params.layers,
        sample["vectors_per_dimension"],
        load_sums(part, key, lm.device),
        lambda so_far: save_sums(so_far, part, key),
        progress=run.progress,
        part=params.get("part", "mlp"),
    )
    table = describe(sums)
    print(table.to_string(index=False))
    for remark in remarks(table):
        print(f"{snakemake.rule}: {remark}")
        print(f"{snakemake.rule}: {remark}", file=run.console)
    save_moments(sums.moments(), made, **hashes, table=table)
    MOMENTS.write(table, snakemake.output.table, run.provenance)
    part.unlink(missing_ok=True)
