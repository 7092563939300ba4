"""The stages of second moments in a copy of the project: whose text is gathered, and what is published."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import started
from aftershock.budget.cost import EIGENVECTORS
from aftershock.budget.needs import Needs
from aftershock.config.models import read_models
from aftershock.config.settings import artifact_layers, moment_layers
from aftershock.config.sizes import Sizes
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import second_moments, sha256_of_weights
from aftershock.lm.statistics.null_space import load_artifact
from configured import study
from test_moments import keys
from tiny import save, tiny

ROOT = Path(__file__).parents[1]
COPIED = ("workflow", "resources", "envs", "Snakefile", "config.yaml", "pyproject.toml")
MOMENTS = {
    "self": {"text": "self", "tokens": 200},
    "drawn": {"text": "text.txt", "tokens": "auto", "vectors_per_dimension": 12},
    "plain": {"text": "text.txt", "vectors_per_dimension": 1000},
    "published": {"hub": "o/n", "file": "{layer}.npz"},
}

COUNTS = {"gather_text": 2, "moments": 3, "attention_moments": 1, "null_space": 2, "fetch_moments": 1}
COUNTS |= {"take_moments": 1, "fetch_model": 4, "total": 14}
"""Jobs of the four models."""


@pytest.fixture
def project(tmp_path):
    """A copy of the project with a model's file for each of MOMENTS, all of one tiny model."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    save(tiny("llama", torch.float32), tmp_path / "model")
    letters = np.random.default_rng(0).integers(97, 123, size=(200, 20)).astype(np.uint8)
    lines = [" ".join(bytes(row[i : i + 4]).decode() for i in range(0, 20, 4)) for row in letters]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    for name, moments in MOMENTS.items():
        contents = {"source": {"path": "model"}, "model_type": "llama", "n_layers": 3, "moments": moments}
        contents["editors"] = {"rome": {"layers": [1]}, "memit": {"layers": [0, 1]}}
        (tmp_path / "resources" / "models" / f"{name}.yaml").write_text(yaml.safe_dump(contents))
    both = {"method": "pmet", "settings": {"modules": ["attention", "mlp"], "layers": [0, 1]}}
    inside = {"method": "alphaedit", "settings": {"layers": [1]}}
    editors = {"mend": None, "both": both, "inside": inside}
    given = {"models": list(MOMENTS), "mend": {"settings": {}}, "editors": editors}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(given | {"report": {"bars": []}}))
    return tmp_path


def snakemake(project: Path, *arguments: str) -> str:
    run = started.snakemake(project, "--configfile", "study.yaml", "--cores", "1", *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_text_is_gathered_by_who_asks_for_it_and_published_moments_are_fetched(project):
    targets = [f"results/models/{name}/moments.safetensors" for name in MOMENTS]
    targets.append("results/models/self/attention_moments.safetensors")
    targets += [f"results/models/{name}/null_space.safetensors" for name in ("self", "published")]
    said = snakemake(project, "--dry-run", *targets)
    counts = {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE)}
    assert counts == COUNTS


@pytest.mark.thorough
def test_moments_are_those_of_the_text_that_was_gathered(project):
    names = ("self", "drawn", "plain")
    targets = [f"results/models/{name}/moments.safetensors" for name in names]
    others = [f"results/models/plain/{name}.safetensors" for name in ("attention_moments", "null_space")]
    snakemake(project, *targets, *others)
    for name in names:
        folder = project / "results" / "models" / name
        lm = LanguageModel.load(folder / "weights")
        file = folder / "gathered.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        texts = [json.loads(line)["text"] for line in lines]
        texts = texts or (project / "text.txt").read_text().splitlines()
        found, wanted = load_file(folder / "moments.safetensors"), second_moments(lm, texts, [0, 1])
        tokens = sum(min(len(ids), lm.context) for ids in lm.encode(texts))
        parts = [(found, wanted)]
        if name == "plain":
            hashed = sha256_of_weights(folder / "weights")
            spectra = load_artifact(folder / "null_space.safetensors", lm, None, hashed)
            assert list(spectra) == [1]
            wanted_values = torch.linalg.svdvals(found["moment.1"].double()).flip(0)
            assert torch.allclose(spectra[1].values, wanted_values, atol=1e-9)
            attention = load_file(folder / "attention_moments.safetensors")
            parts.append((attention, second_moments(lm, texts, [0, 1], "attention")))
        for made, expected in parts:
            for layer in (0, 1):
                matrix = expected[layer].matrix  # documents come in another order, and so do float32 sums
                assert torch.linalg.norm(made[f"moment.{layer}"] - matrix) < 1e-6 * torch.linalg.norm(matrix)
                assert int(made[f"count.{layer}"]) == expected[layer].count
        assert len(keys(lm, texts, 0)) == int(found["count.0"]) == tokens
        assert name != "self" or 200 <= tokens < 200 + lm.context
        assert name != "drawn" or 400 <= tokens < 480 + 4 * lm.context


def test_null_spaces_cost_the_decomposition_of_their_layers():
    config, models = study()
    (name,) = config["models"]
    config["editors"]["inside"] = {"method": "alphaedit", "settings": {"layers": [2]}}
    assert 2 in moment_layers(config["editors"], models[name])
    assert artifact_layers("null_space", config["editors"], models[name]) == [2]
    need = Needs(config, models, ROOT).need("null_space", {"model": name})
    width = Sizes.of(models[name]).inner
    assert need.work.exact == EIGENVECTORS * width**3
    assert need.disk == 4 * width**2


@pytest.mark.parametrize(
    ("moments", "line"),
    [
        ({"hub": "o/n", "file": "{layer}.npz", "text": "a.txt"}, "so text must go"),
        ({"hub": "o/n", "file": "{layer}.npz", "text": "self", "tokens": "auto"}, "so text and tokens must"),
        ({"text": "self", "vectors_per_dimension": None}, "moments.vectors_per_dimension: null means all"),
        ({"text": "self"}, None),
    ],
)
def test_what_contradicts_itself_is_said(tmp_path, moments, line):
    contents = {"source": {"path": "model"}, "n_layers": 3, "moments": moments}
    (tmp_path / "some.yaml").write_text(yaml.safe_dump(contents))
    _, errors = read_models({"models": ["some"], "kgs": {}, "editors": {}}, tmp_path)
    assert len(errors) == (line is not None)
    assert line is None or line in errors[0]
