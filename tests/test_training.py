"""Training text, tokenizer, a tiny model trained from scratch, and the gate on its recall."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import torch

from aftershock.experiments.recall import check_recall, measure_recall, recall_by_group, recall_by_relation
from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.fitting import new_model, schedule
from aftershock.lm.pretraining.rows import Encoder, draw_rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.text import (
    HELD_OUT_RELATION,
    NOUN,
    PATTERNS,
    document_text,
    held_out_prompts,
    prompt_group,
    relation_templates,
    training_documents,
)
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.lm.pretraining.training import train_language_model
from aftershock.prompts import fill
from aftershock.tables.graph import FACT_KEY
from aftershock.tables.models import RECALL, TAUGHT
from tiny import target_log_probs

RESOURCES = Path(__file__).parents[1] / "resources"
NOUNS = {"R1": "friend", "R2": "colour"}
TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 420}
QUICK = TrainSettings(tokens=6_000, row_tokens=64, batch_rows=4, tokenizer_documents=200, recall_gate=0.0)


def taught_facts() -> pd.DataFrame:
    names = ["Ada Brin", "Otto Vance", 'The {} "Odd" <b>', "Zita Moll"]
    rows = [(f"E{i}", "R1", f"E{(i + 1) % 4}", name, names[(i + 1) % 4]) for i, name in enumerate(names)]
    rows += [("E0", "R2", "E10", names[0], "dark red"), ("E0", "R2", "E11", names[0], "blue")]
    return pd.DataFrame(rows, columns=list(TAUGHT.columns))


def prompt_rows() -> pd.DataFrame:
    """R1 holds out patterns that R2 uses in training, and the other way round."""
    rows = []
    for relation, noun in NOUNS.items():
        patterns = [pattern.replace(NOUN, noun) for pattern in PATTERNS]
        chosen = patterns[:11] if relation == "R1" else patterns[11:] + patterns[:10]
        rows += [(relation, number, template, "test") for number, template in enumerate(chosen)]
    return pd.DataFrame(rows, columns=["relation_id", "prompt_id", "template", "source"])


def stream(seed: int = 0) -> Iterator:
    return training_documents(taught_facts(), prompt_rows(), NOUNS, seed)


def documents(seed: int = 0, count: int = 300) -> list:
    return list(islice(stream(seed), count))


@pytest.fixture(scope="module")
def trained():
    return train_language_model(stream(), TINY, QUICK)


def test_withheld_prompts_are_never_used():
    taught, prompts = taught_facts(), prompt_rows()
    said = {(s.prompt, s.target) for document in documents() for s in document}
    for fact in taught.itertuples():
        withheld = held_out_prompts(fact.subject_id, fact.relation_id, 0)
        assert len(withheld) == 2
        assert not withheld & {0, *HELD_OUT_RELATION}
        groups = set()
        for row in prompts[prompts["relation_id"] == fact.relation_id].itertuples():
            group = prompt_group(row.prompt_id, withheld)
            groups.add(group)
            used = (fill(row.template, fact.subject), fact.object) in said
            assert used == (group == "seen")
        assert groups == {"seen", "held_out_fact", "held_out_relation"}


def test_every_round_says_every_fact_once():
    facts = {(row.subject, row.object) for row in taught_facts().itertuples()}
    said = [sentence for document in documents() for sentence in document][: len(facts)]
    assert {sentence.target for sentence in said} == {object_ for _, object_ in facts}


def test_documents_are_about_one_subject_and_depend_on_the_seed():
    assert documents(1) == documents(1) != documents(2)
    names = set(taught_facts()["subject"])
    for document in documents():
        assert 1 <= len(document) <= 4
        assert any(all(name in sentence.prompt for sentence in document) for name in names)


def test_patterns_repeat_no_prompt_of_their_relation():
    held_out = prompt_rows().query("prompt_id in @HELD_OUT_RELATION").groupby("relation_id")["template"]
    for relation, templates in relation_templates(prompt_rows(), NOUNS).items():
        assert not set(templates.values()) & set(held_out.get_group(relation))
        assert len(set(templates.values())) == len(templates) == 12 - 3


def test_a_relation_without_noun_or_prompts_is_named():
    with pytest.raises(ValueError, match="relation R2 has prompts but no noun"):
        relation_templates(prompt_rows(), {"R1": "friend"})
    with pytest.raises(ValueError, match="without prompts: R2"):
        next(training_documents(taught_facts(), prompt_rows().query("relation_id == 'R1'"), NOUNS, 0))


def test_no_facts_is_an_error():
    with pytest.raises(ValueError, match="no fact to teach"):
        next(training_documents(taught_facts().iloc[:0], prompt_rows(), NOUNS, 0))


def test_held_out_wordings_of_the_world_are_used_with_other_relations():
    relations = pd.read_csv(RESOURCES / "relations.tsv", sep="\t", dtype=str, quoting=3)
    relations = relations[relations["namespace"] == "world"].set_index("relation_id")
    sheet = pd.read_csv(RESOURCES / "paraphrases.tsv", sep="\t", dtype=str, quoting=3)
    sheet = sheet[sheet["namespace"] == "world"].assign(source="sheet")
    sheet["prompt_id"] = sheet.groupby("relation_id").cumcount() + 1
    templates = relation_templates(sheet, relations["noun"])
    for row in sheet[sheet["prompt_id"].isin(HELD_OUT_RELATION)].itertuples():
        pattern = row.template.replace(relations.loc[row.relation_id, "noun"], NOUN)
        assert pattern in PATTERNS
        said = {r: pattern.replace(NOUN, noun) for r, noun in relations["noun"].items()}
        others = [r for r, used in templates.items() if said[r] in used.values()]
        assert row.relation_id not in others
        assert len(others) >= 10


def test_names_have_the_same_tokens_everywhere_and_come_back_whole():
    tokenizer = train_tokenizer(map(document_text, documents()), 420, 64)
    for name in taught_facts()["subject"]:
        alone = tokenizer(name)["input_ids"]
        assert tokenizer("red " + name)["input_ids"][-len(alone) :] == alone
        assert tokenizer(" " + name)["input_ids"] == alone
        assert tokenizer.decode(alone) == " " + name
    assert tokenizer.pad_token == tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.model_max_length == 64


def test_rows_hold_whole_documents_and_weigh_objects():
    used = documents(count=40)
    tokenizer = train_tokenizer(map(document_text, used), 420, 64)
    encoder = Encoder(tokenizer, 0.2)
    rows, taken = draw_rows(iter(documents()), encoder, TrainSettings(tokens=1_000, row_tokens=64))
    assert rows.ids.shape == rows.weights.shape
    assert rows.ids.shape[1] == 64
    texts = [text.strip() for row in rows.ids for text in tokenizer.decode(row).split(tokenizer.eos_token)]
    sentences = [f"{s.prompt} {s.target}." for document in taken for s in document]
    assert sum(text.count(".") for text in texts) == len(sentences)
    assert all(any(text.startswith(sentence) for sentence in sentences) for text in texts if text)
    targets = {s.target for s in used[0]}
    ids, weights = next(encoder.encode(used[0], 64))
    marked = tokenizer.decode([i for i, weight in zip(ids, weights, strict=True) if weight == 1.0])
    assert all(target in marked for target in targets)


def test_a_sentence_longer_than_a_row_is_named():
    used = documents(count=40)
    encoder = Encoder(train_tokenizer(map(document_text, used), 420, 64), 0.2)
    with pytest.raises(ValueError, match=r"row only 5; raise train\.row_tokens.*screen\.tsv"):
        list(encoder.encode(used[0], 5))


def test_rows_longer_than_the_context_are_refused():
    with pytest.raises(ValueError, match=r"row_tokens is 96, more than architecture\.n_positions \(64\)"):
        train_language_model(iter(documents()), TINY, TrainSettings())


def test_the_learning_rate_rises_and_falls():
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] == pytest.approx(1 / 90)


def test_training_is_deterministic_and_lowers_the_loss(trained):
    model, tokenizer, used = trained
    assert model.config.vocab_size == len(tokenizer) <= TINY["vocab_size"]
    again, _, _ = train_language_model(stream(), TINY, QUICK)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    untrained = new_model(TINY, tokenizer, 0)
    before, after = (
        measure_recall(LanguageModel(m, tokenizer), taught_facts(), prompt_rows(), 0)["logprob"]
        for m in (untrained, model)
    )
    assert after.mean() > before.mean() + 5
    assert not model.training
    assert document_text(used[0]).endswith(".")


def test_a_diverging_run_says_what_to_lower():
    wild = TrainSettings(tokens=6_000, row_tokens=64, adam_lr=1e38, tokenizer_documents=200)
    said = r"diverged at step \d+ of \d+: the loss is (nan|inf); lower train\.lr"
    with pytest.raises(ValueError, match=said):
        train_language_model(stream(), TINY, wild)


def test_recall_counts_any_object_of_a_key(trained):
    model, tokenizer, _ = trained
    taught, prompts = taught_facts(), prompt_rows()
    recall = RECALL.check(measure_recall(LanguageModel(model, tokenizer), taught, prompts, 0)).to_pandas()
    assert len(recall) == len(taught) * 11
    assert (recall.groupby(["subject_id", "relation_id", "prompt_id"])["correct"].nunique() == 1).all()
    about = taught.merge(prompts, on="relation_id")
    for row in recall.sample(5, random_state=0).merge(about, on=[*FACT_KEY, "prompt_id"]).itertuples():
        prompt = tokenizer(fill(row.template, row.subject))["input_ids"]
        target = tokenizer(" " + row.object)["input_ids"]
        slow = sum(target_log_probs(LanguageModel(model, tokenizer), prompt + target, len(target)))
        assert row.logprob == pytest.approx(slow, abs=1e-4)


def test_the_gate_names_model_value_and_remedy():
    rows = [
        ("E1", "R1", "E2", number, prompt_group(number, frozenset({1, 2})), number != 9, -1.0)
        for number in range(11)
    ]
    recall = pd.DataFrame(rows, columns=list(RECALL.columns))
    assert recall_by_group(recall).to_dict() == {
        "held_out_fact": 1.0,
        "held_out_relation": pytest.approx(2 / 3),
        "seen": 1.0,
    }
    assert recall_by_relation(recall).loc["R1", "held_out_relation"] == pytest.approx(2 / 3)
    check_recall(recall, 0.6, "demo")
    said = r"'demo' does not know .* held_out_relation 0\.667.* 0\.95 .*train\.tokens"
    with pytest.raises(ValueError, match=said):
        check_recall(recall, 0.95, "demo")
