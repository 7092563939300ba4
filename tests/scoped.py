"""Scope classifiers and counterfactual models for small random models, and slow code for what they do."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from aftershock.lm.edits.routed import Routed
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope import ScopeClassifier
from aftershock.lm.networks.scope_models import ScopeModels, beside, lowest_layers
from aftershock.prompts import fill, join
from aftershock.requests import EditRequest
from tiny import CITIES, NAMES, TEMPLATES

TRAINING = {"scope_layers": 1, "counterfactual_layers": 2, "dimension": 8, "lr": 0.01, "batch_edits": 8}
TRAINING |= {"other_texts": 2, "steps": 60, "val_interval": 20, "val_edits": 16}


@dataclass(frozen=True)
class ByName:
    """Vectors that say which of NAMES a text holds: equal ones lie at 0, others two apart when squared."""

    dtype: torch.dtype
    separator: str = ""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(name in text) for name in NAMES] for text in texts], dtype=self.dtype)


def by_name(
    lm: LanguageModel, scale: float = 5.0, layers: int = 2, noise: float = 0.1, **options
) -> ScopeModels:
    """A classifier that reads names, and a counterfactual model of other weights than the model's."""
    model = lowest_layers(lm, layers)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    classifier = ScopeClassifier(ByName(lm.dtype), torch.tensor(scale, dtype=lm.dtype), **options)
    name = f"{lm.model.config.model_type} {lm.dtype} {scale} {layers} {noise} {options}"
    return ScopeModels(classifier, beside(lm, model), name)


def cache_of(models: ScopeModels, cases: Sequence[Sequence[EditRequest]], age: int = 0, **options) -> Routed:
    """The edits of each case, one row of ids after the other."""
    read = [
        [models.counterfactual.tokenizer(join(r.text, r.target_new))["input_ids"] for r in case]
        for case in cases
    ]
    n, width = max(map(len, read)), max(len(ids) for case in read for ids in case)
    texts = torch.zeros(len(cases), n, width, dtype=torch.long)
    keys = torch.zeros(len(cases), n, len(NAMES), dtype=models.counterfactual.dtype)
    for i, case in enumerate(cases):
        for j, request in enumerate(case):
            texts[i, j, : len(read[i][j])] = torch.tensor(read[i][j]) + 1
            keys[i, j] = models.classifier.embed([request.text])[0]
    ages = torch.arange(age, age + n).expand(len(cases), -1)
    return Routed(models, texts, keys, ages, **options)


def training_rows(
    train: Sequence[str] = NAMES, dev: Sequence[str] = NAMES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Edits and other texts about the names of each split."""
    edits, others = [], []
    for split, names in {"train": train, "dev": dev}.items():
        for i, name in enumerate(names):
            prompts = [fill(template, name) for template in TEMPLATES]
            edits += [(split, name, name, "R", prompts, city) for city in CITIES[i % 3 :: 3]]
            others += [(split, name, "R", prompt, CITIES[-1 - i]) for prompt in prompts]
    columns = ["split", "subject_id", "subject", "relation_id", "prompts", "target_new"]
    return (
        pd.DataFrame(edits, columns=columns),
        pd.DataFrame(others, columns=["split", "subject", "relation_id", "prompt", "target"]),
    )
