"""Gather the text of a model's second moments: written by the model itself, or drawn until they settle."""

import json

from aftershock.experiments.settling import SETTLED, take_documents
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.self_text import write_documents
from aftershock.lm.texts.documents import sample_documents, text_files
from aftershock.output import whole_file
from aftershock.stage import stage

DRAWN = 4  # documents from one look to the next, each as long as the model's context at most

with stage(snakemake) as run:
    given, params, sample = snakemake.input, snakemake.params, snakemake.params.sample
    lm = LanguageModel.load(given.weights, run.device, **params.reader)
    if given.text:
        drawn = sample_documents(
            text_files(given.text), sample["column"], sample["documents"], sample["seed"]
        )
        lists = (drawn[i : i + DRAWN] for i in range(0, len(drawn), DRAWN))
    else:
        lists = write_documents(lm, sample["seed"])
    tokens = None if sample["tokens"] == "auto" else sample["tokens"]
    taken = take_documents(
        lm, lists, params.layers, tokens, sample["vectors_per_dimension"], progress=run.progress
    )
    print(f"{len(taken.documents)} documents, {taken.tokens} tokens")
    for layer, cosine in taken.cosines.items():
        line = f"layer {layer}: the whitened directions should have a cosine of {cosine:.3f} with their limit"
        print(line)
        if cosine < SETTLED:
            line += f", less than {SETTLED}: take more text, or larger `vectors_per_dimension`"
            print(f"{snakemake.wildcards.model}, {line}", file=run.console)
    with whole_file(snakemake.output[0]) as part:
        lines = (json.dumps({"text": text}, ensure_ascii=False) for text in taken.documents)
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
