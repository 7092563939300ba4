"""Training settings of a small model from scratch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainSettings:
    """`train:` of a model's YAML; the defaults suit about 1 500 facts and a model of one million weights."""

    facts: int | None = None  # (subject, relation) keys to teach; None: all
    seed: int = 0
    recall_gate: float = 0.95  # share of the prompts of each held-out group
    tokens: int = 1_000_000
    row_tokens: int = 96
    batch_rows: int = 8
    parts: int = 2  # of a batch; at most this many processes share the work
    lr: float = 4e-3  # of Muon, for the matrices inside the layers
    adam_lr: float = 4e-3  # of AdamW, for embeddings, norms and biases
    weight_decay: float = 0.01
    warmup: float = 0.02  # share of the steps
    context_weight: float = 0.2  # of a token that is not part of an object
    tokenizer_documents: int = 8_000
    max_sentences: int = 4
