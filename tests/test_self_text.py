"""Documents that a model writes itself, against sampling one token at a time, and how many are enough."""

import pytest
import torch

from aftershock.experiments import settling
from aftershock.experiments.settling import settled, take_documents
from aftershock.lm.statistics import self_text
from aftershock.lm.statistics.moments import Sums
from aftershock.lm.statistics.probe_keys import PROMPT, SUBJECTS, probe_keys
from aftershock.lm.statistics.self_text import _write, separator_of, write_documents
from aftershock.prompts import fill
from aftershock.seeds import derive
from test_moments import keys
from tiers import of_families
from tiny import FAMILIES, TEXTS, next_log_probs, tiny


def slowly(lm, start, ends, count, tokens, seed):
    """Documents one by one, without a cache: the same points, the token whose interval each falls into."""
    generator = torch.Generator().manual_seed(seed)
    rows, alive = [[] for _ in range(count)], [True] * count
    for _ in range(tokens):
        points = torch.rand(count, generator=generator).double()
        for i in range(count):
            if not alive[i]:
                continue
            reached = next_log_probs(lm, [start, *rows[i]])[-1].double().exp().cumsum(0)
            token = int((reached <= points[i] * reached[-1]).sum())
            alive[i] = token not in ends
            if alive[i]:
                rows[i].append(token)
    return rows


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mistral"])
def test_documents_are_those_of_sampling_one_by_one(family, monkeypatch):
    monkeypatch.setattr(self_text, "DOCUMENT_TOKENS", 12)
    lm = tiny(family)
    ends = list(range(0, len(lm.tokenizer), 9))  # so that rows end at different places
    found = _write(lm, 0, ends, 5, torch.Generator().manual_seed(3))
    assert found == slowly(lm, 0, ends, 5, 12, 3)
    assert len({len(row) for row in found}) > 1


def test_lists_depend_on_the_seed_and_their_place_alone(monkeypatch):
    monkeypatch.setattr(self_text, "DOCUMENT_TOKENS", 10)
    lm = tiny(dtype=torch.float32)
    one, other = write_documents(lm, 1, 4), write_documents(lm, 1, 4)
    first, second = next(one), next(one)
    assert (first, second) == (next(other), next(other))
    assert first != second
    assert next(write_documents(lm, 2, 4)) != first
    rows = _write(lm, separator_of(lm), [0], 4, torch.Generator().manual_seed(derive(1, "documents", 1)))
    assert second == [lm.tokenizer.decode(row) for row in rows if lm.tokenizer.decode(row).strip()]


def test_a_document_begins_after_what_separates_documents():
    lm = tiny()
    assert lm.tokenizer.convert_ids_to_tokens(separator_of(lm)) == "<|endoftext|>"
    silent = tiny()
    silent.model.lm_head.bias = torch.nn.Parameter(torch.zeros(silent.model.config.vocab_size).double())
    silent.model.lm_head.bias.data[0] = 1e6  # nothing but the end
    with pytest.raises(ValueError, match="the model wrote 3 documents without text.*name a text"):
        next(write_documents(silent, 0, 3))


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_probe_keys_are_those_at_the_subjects_last_token(family):
    lm = tiny(family)
    found = probe_keys(lm, [1, 0])
    for i in (0, len(SUBJECTS) - 1):
        text = fill(PROMPT, SUBJECTS[i])  # the subject ends the text
        for layer in (0, 1):
            assert torch.allclose(found[layer][i], keys(lm, [text], layer)[-1])


def test_the_expected_cosine_is_that_with_a_text_without_end():
    """Keys of a known C, taken many times: the mean estimate against the mean cosine with C^-1 k itself."""
    g = torch.Generator().manual_seed(0)
    d, n = 40, 600
    root = torch.randn(d, d, generator=g, dtype=torch.float64) / d**0.5 + torch.eye(d, dtype=torch.float64)
    probes = torch.randn(64, d, generator=g, dtype=torch.float64) @ root
    truth = torch.nn.functional.normalize(torch.linalg.solve(root.T @ root, probes.T).T)
    expected, reached = [], []
    for _ in range(30):
        k = torch.randn(n, d, generator=g, dtype=torch.float64) @ root
        halves = [Sums({3: half.T @ half}, len(half)) for half in (k[::2], k[1::2])]
        expected.append(settled(*halves, 3, probes))
        u = torch.nn.functional.normalize(torch.linalg.solve(k.T @ k, probes.T).T)
        reached.append(float((u * truth).sum(dim=1).median()))
    assert sum(expected) / 30 == pytest.approx(sum(reached) / 30, abs=0.01)
    assert 0.8 < sum(reached) / 30 < 0.99
    few = Sums({3: torch.eye(d, dtype=torch.float64)}, d - 1)
    assert settled(few, few, 3, probes) == -1.0


def lists(texts, size=16):
    return [texts[i : i + size] for i in range(0, len(texts), size)]


def test_text_is_taken_until_directions_have_settled(monkeypatch):
    lm = tiny(dtype=torch.float32)  # the widest matrix has 64 inputs
    lengths = [len(ids) for ids in lm.encode(TEXTS)]
    monkeypatch.setattr(settling, "SETTLED", -1.0)
    taken = take_documents(lm, lists(TEXTS), [0, 1])
    assert 640 <= taken.tokens == sum(lengths[: len(taken.documents)])
    assert len(taken.documents) % 16 == 0
    assert sum(lengths[: len(taken.documents) - 16]) < 640
    assert set(taken.cosines) == {0, 1}
    monkeypatch.setattr(settling, "SETTLED", 1.1)
    most = take_documents(lm, lists(TEXTS), [1], most=12)
    assert not most.settled
    assert most.tokens >= 768 > most.tokens - lengths[len(most.documents) - 1]
    every = take_documents(lm, lists(TEXTS), [1])
    assert every.documents == TEXTS
    assert taken.documents == TEXTS[: len(taken.documents)]


def test_a_number_of_tokens_is_taken_as_it_is():
    lm = tiny(dtype=torch.float32)
    lengths = [len(ids) for ids in lm.encode(TEXTS)]
    taken = take_documents(lm, lists(TEXTS), [0], tokens=300)
    assert taken.tokens == sum(lengths[: len(taken.documents)])
    assert taken.tokens - lengths[len(taken.documents) - 1] < 300 <= taken.tokens
    assert taken.cosines == {}
    with pytest.raises(ValueError, match="text of several tokens, but it has 0"):
        take_documents(lm, [["", " "]], [0], tokens=300)
    with pytest.raises(ValueError, match="no editor of this run needs second moments"):
        take_documents(lm, lists(TEXTS), [])
