"""Let a local model write paraphrases of a graph's prompts."""

from functools import partial

from aftershock.kg.screen import read_screen
from aftershock.kg.sheets import PARAPHRASES, read_paraphrases, read_relations
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.chat import reply
from aftershock.paraphrases.asking import Effort, ask_all, relations_to_ask, report
from aftershock.paraphrases.kept import KeptAnswers, answers_folder
from aftershock.paraphrases.local import Local
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, PARAPHRASE_CANDIDATES, PARAPHRASE_REQUESTS

with stage(snakemake) as run:
    given, params, namespace = snakemake.input, snakemake.params, snakemake.params.source["namespace"]
    relations = relations_to_ask(
        read_relations(given.relations, namespace),
        read_paraphrases(given.paraphrases, namespace),
        PARAPHRASES,
        params.relations,
        FACTS.read(given.facts),
    )
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    backend = Local(weights=sha256_of_weights(given.weights), reply=partial(reply, lm), **params.model)
    answers = KeptAnswers(backend, answers_folder(snakemake.wildcards.kg))
    screen = read_screen(given.words or None, given.screen)
    columns = {name: params.model[name] for name in ("model", "temperature", "seed")}
    requests, candidates = ask_all(
        relations,
        answers,
        Effort(**params.effort),
        {"backend": "local", "base_url": None, **columns},
        screen=screen,
    )
    print(report(requests, candidates, answers))
    PARAPHRASE_REQUESTS.write(requests, snakemake.output.requests, run.provenance)
    PARAPHRASE_CANDIDATES.write(candidates, snakemake.output.candidates, run.provenance)
