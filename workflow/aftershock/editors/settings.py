"""The hyperparameters of every method, with their defaults. Nothing here loads a tensor library.

Defaults are the released ones for GPT2-XL where the released code has them. They give way to the model's
(`editors:` in resources/models/<model>.yaml), these to the run's (config.yaml), these to the chosen trial.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aftershock.schema import number_hint

STRICT = ConfigDict(extra="forbid")

Layers = tuple[Annotated[int, Field(ge=0)], ...]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class FtSettings:
    """Fine-tuning of MLP output projections, weight and bias, on the edit alone."""

    layers: Layers = (0,)
    objective: Literal["prompt_last", "target_new"] = "prompt_last"
    """Where target tokens are read: all at the prompt's last position (released), or each in its turn."""
    steps: Count = 25
    lr: Positive = 5e-4
    weight_decay: NotNegative = 0.0
    norm_constraint: Positive | None = 5e-4
    """Largest change of any single weight; null for none."""
    batch_size: Count = 64
    """Requests of one case per update."""


@dataclass(frozen=True, config=STRICT)
class RomeSettings:
    """Rank-one model editing."""

    layers: Layers = (17,)
    steps: Count = 20
    """Evaluations of the loss; updates are one fewer."""
    lr: Positive = 0.5
    weight_decay: NotNegative = 0.5
    clamp: Positive = 4.0
    """Largest norm of the value's change, in norms of the value."""
    kl_factor: NotNegative = 0.0625
    mom2_adjustment: bool = True
    """Whether the key is whitened with the second moments."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((5, 10), (10, 10))
    """(tokens, texts) sampled from the model to read the prompt after, beside the plain prompt."""
    context_openings: tuple[str, ...] = ()
    """Words such texts begin with; without any, the end-of-text token."""


@dataclass(frozen=True, config=STRICT)
class RRomeSettings(RomeSettings):
    """ROME whose direction and key are one."""

    keys: Literal["prompt", "averaged"] = "prompt"
    """The key of the plain prompt alone, or the mean over all contexts, value included."""


@dataclass(frozen=True, config=STRICT)
class MemitSettings:
    """Mass-editing memory in a transformer: the last layer's value, spread over several layers."""

    layers: Layers = (13, 14, 15, 16, 17)
    steps: Count = 20
    """Evaluations of the loss; updates are one fewer."""
    lr: Positive = 0.5
    weight_decay: NotNegative = 0.5
    clamp: Positive = 0.75
    """Largest norm of the value's change, in norms of the value."""
    kl_factor: NotNegative = 0.0625
    loss_layer: Annotated[int, Field(ge=0)] | None = None
    """The layer that the target's probability is read from; null for the last."""
    mom2_weight: Positive = 20000.0
    """Weight of the second moments against the keys of the edit (lambda)."""
    multi_label: Literal["joint", "mean", "mean_scaled", "mixture", "sequential"] = "joint"
    """How several labels of one subject and prompt are written: in one least-squares problem (released); as
    the mean of their values, weighed as one request or, which equals the joint way, as all of them; as one
    value that makes all labels likely; or one after the other."""
    context_lengths: tuple[tuple[Count, Count], ...] = ((10, 1),)
    """(tokens, texts per opening) sampled from the model to read the prompt after, each pair weighted as the
    plain prompt is."""
    context_openings: tuple[str, ...] = ("The", "Therefore", "Because", "I", "You")


@dataclass(frozen=True, config=STRICT)
class MendSettings:
    """MEND: gradients that a trained hypernetwork turns into edits."""

    layers: Layers = (45, 46, 47)
    """Layers whose MLP is edited, first and last matrices; the hypernetwork is trained for these."""
    variant: Literal["eval", "released"] = "eval"
    """The normaliser as training left it, or (released) starting anew and learning from every edit: then
    results depend on the order of the cases, which are edited one by one in one job."""
    lr_scale: Positive = 1.0
    """Factor on the learned rates."""


@dataclass(frozen=True, config=STRICT)
class MendTraining:
    """How a hypernetwork is trained; the defaults are the released ones (one edit to a batch).

    The loss of an edit is cedit * NLL of another wording of it + cloc * KL(unedited || edited) elsewhere.
    """

    rank: Count = 1920
    """Of the hypernetwork's layers, where they are wider."""
    n_hidden: Annotated[int, Field(ge=0)] = 1
    edit_lr: float = 1e-4
    """Every matrix's rate to begin with; a negative one makes the untrained edit a step of descent."""
    lr: Positive = 1e-6
    edit_lr_lr: NotNegative | None = None
    """Learning rate of the matrices' rates; null for `lr`. (The released lr_lr never acts.)"""
    cedit: NotNegative = 0.1
    cloc: NotNegative = 1.0
    batch_edits: Count = 1
    """Edits of one batch, side by side, each with its own delta."""
    locality_texts: Count = 1
    """Other texts that each edit should leave alone."""
    same_relation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of these that have the relation of the edit, where the texts come from the graph."""
    wordings: Literal["paraphrase", "any"] = "paraphrase"
    """What the edited model is asked: a paraphrase, or any prompt, that of the edit among them."""
    accumulate: Count = 10
    """Batches of one update."""
    first_update: Literal["exact", "released"] = "released"
    """Released: the first update comes one batch late, and is the sum of its gradients over `accumulate`."""
    grad_clip: Positive = 100.0
    decay: bool = False
    """Whether the learning rates fall linearly to zero at `steps`."""
    steps: Count = 100_000
    """Batches at most."""
    val_interval: Count = 1000
    """Batches between two looks at the dev split."""
    val_edits: Count = 500
    patience: Count = 20_000
    """Batches without a lower dev loss after which training ends."""


def is_sequential(settings: Any) -> bool:
    """Whether a method with these settings edits one case after the other, each depending on those before."""
    return getattr(settings, "variant", "") == "released"


def merge(kind: type, name: str, *layers: Mapping[str, Any]) -> Any:
    """Settings of class `kind` from its defaults and `layers`, later ones first; `name` is for error texts.

    ValueError lists every unknown key, with the likeliest one meant, and every value that does not fit.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values.update(layer)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        known = [field.name for field in fields(kind)]
        raise ValueError("; ".join(_problem(name, e, known) for e in error.errors())) from error


def as_values(settings: Any) -> dict[str, Any]:
    """Settings as plain values for JSON; `merge` takes them back."""
    return asdict(settings)


def _problem(name: str, error: Mapping[str, Any], known: list[str]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] != "unexpected_keyword_argument":
        hint = number_hint(error["input"]) if error["type"].startswith(("float", "int")) else ""
        return f"{name}.{where}: {error['msg']}, found {error['input']!r}{hint}"
    close = difflib.get_close_matches(where, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"{name}.{where}: unknown setting; {hint}"
