"""Where second moments are from: documents that a model writes itself, and files of ROME's release."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aftershock.experiments import settling
from aftershock.experiments.settling import settled, take_documents
from aftershock.lm.files.fetch_moments import fetch_moments
from aftershock.lm.statistics import self_text
from aftershock.lm.statistics.moments import Sums
from aftershock.lm.statistics.probe_keys import PROMPT, SUBJECTS, probe_keys
from aftershock.lm.statistics.published_moments import key_width, read_published
from aftershock.lm.statistics.self_text import _write, separator_of, write_documents
from aftershock.prompts import fill
from aftershock.schema import faults, fill_defaults, read_schema
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


# --- published moments --------------------------------------------------------------------------------------
DATA_SET = {"hub": "o/n", "revision": "main", "files": ["data/*.parquet"]}
FILE = "stats/transformer.h.{layer}.mlp.c_proj_float32_mom2_100000.npz"


def total(layer: int, width: int = 6) -> np.ndarray:
    k = np.random.default_rng(layer).normal(size=(50, width))
    return k.T @ k


def release(path: Path, layer: int, **changes: object) -> Path:
    """A file as the release's running statistics write it: a sum, counts, and a name that nothing runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.count": 50,
        "mom2.mom2": total(layer).astype(np.float32),
        "sample_size": 7,
    }
    np.savez(path, **{k: v for k, v in {**given, **changes}.items() if v is not None})
    return path


def test_a_layers_file_is_fetched_and_read_as_a_mean(hub, tmp_path):
    for layer in (3, 4, 5):
        release(tmp_path / "repo" / FILE.format(layer=layer), layer)
    hub.add("someone/stats", tmp_path / "repo", "main", kind="dataset")
    into = tmp_path / "published"
    fetch_moments({"hub": "someone/stats", "kind": "dataset", "file": FILE}, [3, 5], into)
    assert sorted(path.name for path in into.iterdir()) == ["3.npz", "5.npz"]
    assert not list(tmp_path.glob(".published*"))
    found = read_published(into / "5.npz", 6)
    assert (found.tokens, found.documents) == (50, 7)
    moment = Sums({5: found.total}, found.tokens).moments()[5]
    assert moment.count == 50
    assert torch.allclose(moment.matrix.double(), torch.from_numpy(total(5)) / 50, rtol=1e-6)
    assert read_published(release(tmp_path / "a.npz", 3, sample_size=None), 6).documents == 0


def test_what_a_repository_lacks_is_named(hub, tmp_path):
    release(tmp_path / "repo" / FILE.format(layer=3), 3)
    hub.add("someone/stats", tmp_path / "repo", "v1")
    source = {"hub": "someone/stats", "revision": "v1", "file": FILE}
    with pytest.raises(ValueError, match=r"v1 has no file stats/trans.*h.4.*; its .npz files: stats/"):
        fetch_moments(source, [3, 4], tmp_path / "published")
    one = {**source, "file": FILE.format(layer=3)}
    with pytest.raises(ValueError, match=r"is one file, and layers \[3, 4\] need one each: write {layer}"):
        fetch_moments(one, [3, 4], tmp_path / "published")
    fetch_moments(one, [3], tmp_path / "published")
    assert read_published(tmp_path / "published" / "3.npz", 6).tokens == 50
    with pytest.raises(ValueError, match="no such repository"):
        fetch_moments({**source, "hub": "someone/other"}, [3], tmp_path / "other")


class Evil:
    """An object whose reading would run something."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


BROKEN = {
    "another width": ({"mom2.mom2": total(1, 5)}, r"shape \(5, 5\), and the model needs \(6, 6\)"),
    "no sum": ({"mom2.mom2": None}, "lacks mom2.mom2; it has mom2.constructor, mom2.count, sample_size"),
    "no count": ({"mom2.count": None}, "lacks mom2.count"),
    "a pickle": ({"mom2.mom2": np.array([Evil()], dtype=object)}, "holds no second moments.*pickle"),
    "one token": ({"mom2.count": 1}, "over 1 tokens"),
    "not finite": ({"mom2.mom2": np.full((6, 6), np.nan)}, "not finite"),
    "negative": ({"mom2.mom2": -np.eye(6)}, "negative"),
    "crooked": ({"mom2.mom2": np.triu(np.ones((6, 6)))}, "are symmetric, and these are not"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_hold_something_else_are_refused(name, tmp_path):
    changes, error = BROKEN[name]
    path = release(tmp_path / "a.npz", 1, **changes)
    with pytest.raises(ValueError, match=error):
        read_published(path, 6)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_archive_is_named(content, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path} holds no second moments as ROME's release")):
        read_published(path, 6)
    with open(path, "wb") as file:
        np.save(file, np.eye(6))
    with pytest.raises(ValueError, match="holds no second moments"):
        read_published(path, 6)


@pytest.mark.parametrize("family", of_families(FAMILIES))
def test_the_width_of_keys_follows_from_a_models_configuration(family, tmp_path):
    lm = tiny(family, torch.float32)
    lm.model.config.save_pretrained(tmp_path)
    assert key_width(tmp_path) == lm.weight(lm.projection(0)).shape[1]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"hub": "o/n", "file": FILE}, []),
        ({"hub": "o/n", "revision": "main", "kind": "dataset", "file": FILE}, []),
        ({"hub": "o/n"}, ["moments.file"]),
        ({"file": FILE}, ["moments.hub"]),
        ({"hub": "o/n", "file": "a.pt"}, ["moments.file"]),
        ({"text": "self", "tokens": "auto"}, []),
        ({"text": "self", "tokens": 15360}, []),
        ({"text": "self", "tokens": "some"}, ["moments.tokens"]),
        ({"text": "self", "tokens": 1}, ["moments.tokens"]),
        ({"text": "a.txt"}, []),
        ({"text": ["a.txt", "b.parquet"]}, []),
        ({"text": DATA_SET}, []),
        ({"text": []}, ["moments.text"]),
        ({"text": [3]}, ["moments.text.0"]),
        ({"text": {"hub": "o/n", "files": ["*"]}}, ["moments.text.revision"]),
        ({"text": DATA_SET | {"split": "train"}}, ["moments.text.split"]),
    ],
)
def test_a_models_file_may_name_published_moments_or_text(given, wrong):
    model = {"source": {"path": "here"}, "moments": dict(given)}
    fill_defaults(model, read_schema("model"))
    found = faults(model, read_schema("model"))
    assert [".".join(map(str, fault.path)) for fault in found] == wrong
    if given == {"text": "a.txt"}:
        sampled = {name: value for name, value in model["moments"].items() if name != "text"}
        assert sampled == {"column": "text", "documents": 100000, "vectors_per_dimension": 200, "seed": 0}
