"""SERAC: a cache of edits, answered by a second model (Mitchell et al., 2022).

SERAC changes no weight. A scope classifier says whether a prompt is about an edit of the cache, and a small
counterfactual model then answers it, given the edit and the prompt.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.settings import STRICT, Count, NotNegative, Positive, merge


@dataclass(frozen=True, config=STRICT)
class SeracSettings:
    """SERAC: a cache of edits, a scope classifier and a counterfactual model."""

    variant: Literal["paper", "released"] = "paper"
    """The key of an edit: its prompt, and of equally similar edits the last one (paper); or its text
    without the last word, then the separator of the tokenizer if it has one, and of equally similar edits the
    first one (released). With a target of several words a part of it is left in the released key."""
    label: Literal["cut", "repeated"] = "cut"
    """Form of the released variant's key. cut: as above, for models with gpt, llama or "baihcuan" in their
    names. repeated, for all others: the key is the text, a separator, the target, a separator, and the target
    stands once more behind the text that the counterfactual model reads."""
    mixing: Literal["hard", "soft"] = "hard"
    """The effect of a similarity: a switch at one half, or the share of the counterfactual model in the
    probabilities. The released default, without scope labels, is soft."""

    def __post_init__(self) -> None:
        if self.label == "repeated" and self.variant == "paper":
            raise ValueError("serac: label repeated is the released variant's; take variant: released")


@dataclass(frozen=True, config=STRICT)
class SeracTraining:
    """Training of the scope classifier and the counterfactual model; both begin as layers of the model.

    The loss of a batch of edits by `labels` is the cross-entropy of its scopes, plus the negative
    log-probability of its targets under the counterfactual model. By `mixture` it is cedit * NLL of the
    targets + cloc * KL(unedited || edited) of other texts, both through the soft mixture, as released.
    """

    objective: Literal["labels", "mixture"] = "labels"
    scope_layers: Count = 2
    """Number of the model's lowest layers that the classifier consists of."""
    counterfactual_layers: Count = 4
    """Number of the model's lowest layers that the counterfactual model starts from."""
    dimension: Count = 64
    """Dimension of the classifier's vectors."""
    distance: Literal["square", "plain", "cosine"] = "square"
    heads: Count = 1
    """Parts of the vectors; the least of their distances counts."""
    bound: bool = False
    """True if vectors pass through tanh."""
    lr: Positive = 1e-5
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the steps in which the rate rises; it then falls linearly to zero."""
    cedit: NotNegative = 0.1
    cloc: NotNegative = 1.0
    batch_edits: Count = 16
    other_texts: Count = 2
    """Texts out of scope for each edit; half are about its subject or relation, where there are such."""
    grad_clip: Positive = 100.0
    steps: Count = 10_000
    val_interval: Count = 500
    """Batches between two evaluations on the dev split; the state with the lowest loss there is kept."""
    val_edits: Count = 256


def serac_training(*layers: Mapping[str, Any]) -> SeracTraining:
    """Return SERAC's training settings: the defaults, overridden by each of `layers` in turn."""
    return merge(SeracTraining, "serac", *layers)


METHOD = Method(
    settings=SeracSettings,
    editor=".edit:Serac",
    title="SERAC",
    source="Mitchell et al. (2022), Memory-based model editing at scale",
    in_weights=False,
    changes="no weight; a second model answers prompts that are about an edit",
    paper="an edit is found by its prompt, the last of equally similar ones answers",
    released="by its text without the last word, and the first one answers",
    artifacts=("scope_models",),
    change="texts",
)
