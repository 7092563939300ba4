"""Train a model on the taught facts; write it only when it recalls them."""

from aftershock.experiments.recall import check_recall, measure_recall, recall_by_relation
from aftershock.kg.sheets import read_relations
from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.text import document_text, training_documents
from aftershock.lm.pretraining.training import train_language_model
from aftershock.lm.texts.beginning import AUTO
from aftershock.output import whole_folder, write_text
from aftershock.stage import stage
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import RECALL, TAUGHT

with stage(snakemake) as run:
    given, made, given_settings = snakemake.input, snakemake.output, dict(snakemake.params.train)
    document_token = given_settings.pop("document_token", AUTO)
    settings = TrainSettings(**given_settings)
    taught, prompts = TAUGHT.read(given.taught), PROMPTS.read(given.prompts)
    relations = read_relations(given.relations, snakemake.params.namespace)
    nouns = dict(zip(relations["relation_id"], relations["noun"], strict=True))
    documents = training_documents(taught, prompts, nouns, settings.seed, settings.max_sentences)
    model, tokenizer, used = train_language_model(
        documents, snakemake.params.architecture, settings, run.progress, snakemake.threads
    )
    lm = LanguageModel(model, tokenizer, document_token=document_token)
    recall = measure_recall(lm, taught, prompts, settings.seed)
    print(recall_by_relation(recall).to_string(float_format="%.3f"))
    check_recall(recall, settings.recall_gate, snakemake.wildcards.model)
    RECALL.write(recall, made.recall, run.provenance)
    write_text(made.text, "".join(document_text(document) + "\n" for document in used))
    with whole_folder(made.weights) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
