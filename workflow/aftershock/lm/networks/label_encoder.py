"""Similarity of labels, by the edited model's embeddings or by a sentence encoder of the Hub."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from tokenizers import normalizers
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from aftershock.lm.files.folders import fault_of_encoder
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokenizer_files import RULES, load_tokenizer
from aftershock.project import installation

CHUNK = 4096  # labels that are embedded together
NEEDS_LIBRARY = (
    f"cases.label_encoder needs the package sentence-transformers: install it ({installation('encoder')}), "
    "or take cases.label_encoder: model"
)

Encode = Callable[[Sequence[str]], Tensor]
"""Vectors of norm one, (labels, d)."""


class LabelEncoder(Protocol):
    """Protocol of encoders of labels."""

    def within(self, labels: Sequence[str]) -> Encode:
        """The encoding of some of `labels`, all those that belong to one relation."""


class ModelEncoder:
    """Mean input embedding of a label's tokens, less the mean over all labels of the relation."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.table = lm.model.get_input_embeddings().weight

    def within(self, labels: Sequence[str]) -> Encode:
        """Return the encoding of labels, whose mean is computed in chunks to bound memory."""
        chunks = [labels[start : start + CHUNK] for start in range(0, len(labels), CHUNK)]
        mean = sum(self._means(chunk).sum(dim=0) for chunk in chunks) / max(1, len(labels))

        def encode(some: Sequence[str]) -> Tensor:
            centred = self._means(some) - mean
            return centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-12)

        return encode

    def _means(self, labels: Sequence[str]) -> Tensor:
        return torch.stack(
            [self.table[torch.tensor(ids)].mean(dim=0) for ids in self.lm.encode_targets(labels)]
        )


class SentenceEncoder:
    """A model of sentence-transformers, from a folder that `lm.files.fetch_encoder` made."""

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        """Load the encoder; ValueError when the library or the files are missing."""
        require_library()
        from sentence_transformers import SentenceTransformer

        if fault := fault_of_encoder(folder):
            raise ValueError(f"{folder} {fault}; delete it and run again: rule fetch_encoder makes it")
        try:
            self.model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            ).float()  # whatever its file has: few CPUs compute in bfloat16
        except (OSError, ValueError, ImportError) as error:
            said = str(error).strip().partition("\n")[0][:200]
            raise ValueError(
                f"{folder} cannot be loaded as a sentence encoder ({type(error).__name__}: {said}); delete "
                "it and run again, which fetches it anew, or name another in cases.label_encoder"
            ) from error
        _take_rules(self.model[0], Path(folder))

    def within(self, labels: Sequence[str]) -> Encode:
        """Return the encoding of labels; a label's vector does not depend on the others."""
        return lambda some: self.model.encode(
            list(some), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        ).float()


def _take_rules(transformer: Any, folder: Path) -> None:
    """Give an encoder's first module the tokenizer of its tokenizer.json, in place of its class's.

    What the library has set stays: how many tokens are read, and that letters are made small.
    """
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    own = folder / modules[0].get("path", "")
    replaced = getattr(transformer, "processor", None)
    if not isinstance(replaced, PreTrainedTokenizerBase) or not (own / RULES).is_file():
        return  # a module of vectors by word reads tokenizer.json by itself
    tokenizer = load_tokenizer(own, replaced.padding_side)
    tokenizer.model_max_length = replaced.model_max_length
    if transformer.do_lower_case:
        rules, steps = tokenizer.backend_tokenizer, [normalizers.Lowercase()]
        rules.normalizer = normalizers.Sequence([*steps, *([rules.normalizer] if rules.normalizer else [])])
    transformer.processor = tokenizer


def require_library() -> None:
    """Raise ValueError unless sentence-transformers can be imported."""
    if find_spec("sentence_transformers") is None:
        raise ValueError(NEEDS_LIBRARY)


def mean_cosines(rows: pd.DataFrame, encode: Encode) -> pd.Series:
    """Mean cosine of each row's object to the other objects of its subject; missing where there is none.

    `rows` (TAUGHT columns) are of one relation.
    """
    labels = sorted(set(rows["object"]))
    vectors, column = encode(labels), {label: i for i, label in enumerate(labels)}
    result = pd.Series(float("nan"), index=rows.index)
    for _, key in rows.groupby("subject_id"):
        if len(key) > 1:
            mine = vectors[[column[label] for label in key["object"]]]
            cosines = (mine @ mine.T).fill_diagonal_(0)
            others = (cosines + cosines.T).sum(dim=1) / (2 * (len(key) - 1))  # of two objects just the same
            result[key.index] = others.tolist()
    return result
