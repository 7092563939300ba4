"""Probability of a text classifier's label, for texts that go through a screen."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from aftershock.lm.files.folders import fault_of_model
from aftershock.lm.texts.tokenizer_files import load_tokenizer

TOKENS_PER_BATCH = 8192  # padding included
LONGEST = 512  # tokens; more of a text is not read


def classify(
    folder: str | Path, texts: Sequence[str], label: str, device: str, tokens: int = TOKENS_PER_BATCH
) -> list[float]:
    """The probability of `label` for each text, by the classifier in `folder`.

    A sigmoid over its logit where the classifier gives several labels to a text or has one only, else a
    softmax. ValueError when it has no such label, or has labels without a trained head.
    """
    if fault := fault_of_model(folder):
        raise ValueError(f"{folder} {fault}; delete it and run again: rule fetch_classifier makes it")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if info["missing_keys"]:
        raise ValueError(f"{folder} is no classifier: it lacks {', '.join(sorted(info['missing_keys']))}")
    places = {name: place for place, name in model.config.id2label.items()}
    if label not in places:
        raise ValueError(f"screen.classifier.label: {label!r} is unknown; known: {', '.join(sorted(places))}")
    tokenizer = load_tokenizer(folder)
    model = model.float().eval().to(device)  # a CPU without bfloat16 computes it twenty times more slowly
    single = len(places) == 1 or model.config.problem_type == "multi_label_classification"
    encoded = [tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"] for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
    scores = [0.0] * len(texts)
    for batch in _batches(order, encoded, tokens):
        padded = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt").to(device)
        with torch.inference_mode():
            logits = model(**padded).logits.float()  # (batch, labels)
        found = (logits.sigmoid() if single else logits.softmax(dim=-1))[:, places[label]]
        for i, score in zip(batch, found.tolist(), strict=True):
            scores[i] = score
    return scores


def _batches(order: Sequence[int], encoded: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """`order`, shortest text first, cut so that no batch has more than `tokens` tokens, or one text."""
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * len(encoded[i]) <= tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
