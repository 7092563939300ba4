"""Ask a service for paraphrases of a graph's prompts."""

from aftershock.kg.screen import read_screen
from aftershock.kg.sheets import PARAPHRASES, read_paraphrases, read_relations
from aftershock.paraphrases.asking import Effort, ask_all, relations_to_ask, report
from aftershock.paraphrases.endpoint import Endpoint, Patience
from aftershock.paraphrases.kept import KeptAnswers, answers_folder
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
    service = dict(params.service)
    backend = Endpoint(**{**service, "patience": Patience(total=service["patience"])})
    answers = KeptAnswers(backend, answers_folder(snakemake.wildcards.kg))
    screen = read_screen(given.words or None, given.screen)
    columns = {name: service[name] for name in ("base_url", "model", "temperature", "seed")}
    requests, candidates = ask_all(
        relations, answers, Effort(**params.effort), {"backend": "openai", **columns}, params.prices, screen
    )
    print(report(requests, candidates, answers))
    PARAPHRASE_REQUESTS.write(requests, snakemake.output.requests, run.provenance)
    PARAPHRASE_CANDIDATES.write(candidates, snakemake.output.candidates, run.provenance)
