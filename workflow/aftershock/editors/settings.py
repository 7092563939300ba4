"""Types of settings, and merging of settings from several places. Nothing here loads torch.

A method's defaults are the released ones for GPT2-XL where the released code has them; what follows the scale
of a model is `auto`, and measured. They give way to the model's (`editors:` in
resources/models/<model>.yaml), these to the run's (config.yaml), these to the chosen trial of tuning.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aftershock.schema import number_hint

STRICT = ConfigDict(extra="forbid")


def _each_once(layers: tuple[int, ...]) -> tuple[int, ...]:
    """Return layers; ValueError where one is given twice."""
    if repeated := sorted({layer for layer in layers if layers.count(layer) > 1}):
        raise ValueError(f"layer {repeated[0]} is given twice")
    return layers


def _one(layers: tuple[int, ...]) -> tuple[int, ...]:
    """Return layers; ValueError unless there is exactly one."""
    if len(layers) != 1:
        raise ValueError("exactly one layer is edited")
    return layers


Layers = Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_each_once)]
OneLayer = Annotated[Layers, AfterValidator(_one)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]
"""A setting that the editor measures on the model; `Editor.measured` has its value."""

Passes = Annotated[int, Field(lt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class ValueOptions:
    """Options of every optimised value, none of which is on by default; settings inherit them."""

    prob_cutoff: Passes | Probability = 0.0
    """An earlier end of the optimisation (MPES of ENCORE, Gupta et al., 2025). -n ends it at the n-th step,
    whatever lies between, at which all target tokens are the likeliest ones after every context but the plain
    one, which counts where it is the only one. p > 0 ends it once the target's mean probability exp(-nll) is
    above p. Both are read at `loss_layer`; 0 is off."""
    prob_cutoff_tokens: Count | None = None
    """The number of right target tokens, over all contexts but the plain one, at which a step is counted;
    null for all of them. The released code has 5, which is all of five contexts and one token: another
    target meets it by accident, or never."""
    context_penalty: NotNegative = 0.0
    """Weight of the squared distances between the hidden states at the subject after different contexts, the
    plain one included: the sum over pairs, by the model's width, averaged over layers (CORE, arXiv
    2505.23026)."""
    context_layers: Annotated[int, Field(ge=0)] = 0
    """The number of layers above the value's that these are taken after, as far as the model has them."""
    norm_anchor: Positive | Auto | None = None
    """The norm n that every value is brought to (NAS, arXiv 2602.02543): v* n / |v*|, where v* = v0 +
    delta and v0 is what the layer's MLP adds at the plain prompt; null is off. auto: the mean |v*| of
    edits of well-known facts (`lm.statistics.probe_facts`) on the unedited model, without the largest
    twentieth, with these settings and the plain prompt alone. Each is optimised by itself; the released
    code takes the mean loss of 16, so that a norm depends on those beside it by up to 5e-3."""
    norm_anchor_limit: Positive | None = None
    """A value longer than this many n is not written at all: v* = v0 (released code: 2, not in the paper).
    Its key takes part in the update."""

    def __post_init__(self) -> None:
        if self.context_penalty and not self.context_layers:
            raise ValueError("context_penalty compares contexts after no layer; set context_layers")


def merge(kind: type, name: str, *layers: Mapping[str, Any]) -> Any:
    """Settings of class `kind` from its defaults and `layers`, later ones first; `name` is for error texts.

    ValueError lists every unknown key, with the likeliest one meant, and every value that does not fit.
    """
    try:
        return TypeAdapter(kind).validate_python(_merged(layers))
    except ValidationError as error:
        raise ValueError("; ".join(_problems(error, kind, name))) from error


def problems(kind: type, name: str, *layers: Mapping[str, Any]) -> list[str]:
    """Return what `merge` finds wrong, a text each."""
    try:
        TypeAdapter(kind).validate_python(_merged(layers))
    except ValidationError as error:
        return _problems(error, kind, name)
    return []


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for layer in layers for key, value in layer.items()}


def _problems(error: ValidationError, kind: type, name: str) -> list[str]:
    known = [field.name for field in fields(kind)]
    return [_problem(name, each, known) for each in error.errors()]


def as_values(settings: Any) -> dict[str, Any]:
    """Settings as plain values for JSON; `merge` takes them back."""
    return asdict(settings)


def _problem(name: str, error: Mapping[str, Any], known: list[str]) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{name}.{where}: missing; it has no default"
    if error["type"] != "unexpected_keyword_argument":
        hint = number_hint(error["input"]) if error["type"].startswith(("float", "int")) else ""
        message = error["msg"].removeprefix("Value error, ")
        return f"{name}.{where}: {message}, found {error['input']!r}{hint}" if where else f"{name}: {message}"
    close = difflib.get_close_matches(where, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"{name}.{where}: unknown setting; {hint}"
