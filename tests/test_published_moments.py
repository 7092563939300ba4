"""Second moments in the files of ROME's release, from a hub on this machine."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aftershock.lm.files.fetch_moments import fetch_moments
from aftershock.lm.statistics.moments import Sums
from aftershock.lm.statistics.published_moments import key_width, read_published
from aftershock.schema import faults, fill_defaults, read_schema
from tiers import of_families
from tiny import FAMILIES, tiny

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
