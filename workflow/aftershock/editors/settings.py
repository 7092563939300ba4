"""Types that settings are made of, and merging of settings from several places. Nothing here loads torch.

A method's defaults are the released ones for GPT2-XL where the released code has them; what follows the scale
of a model is `auto`, and measured. They give way to the model's (`editors:` in
resources/models/<model>.yaml), these to the run's (config.yaml), these to the chosen trial of tuning.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from aftershock.schema import number_hint

STRICT = ConfigDict(extra="forbid")

Layers = tuple[Annotated[int, Field(ge=0)], ...]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]
"""A setting that the editor measures on the model; `Editor.measured` has what it found."""


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
    if error["type"] == "missing":
        return f"{name}.{where}: missing; it has no default"
    if error["type"] != "unexpected_keyword_argument":
        hint = number_hint(error["input"]) if error["type"].startswith(("float", "int")) else ""
        return f"{name}.{where}: {error['msg']}, found {error['input']!r}{hint}"
    close = difflib.get_close_matches(where, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"{name}.{where}: unknown setting; {hint}"
