"""Validation of hand-written YAML and TSV against workflow/schemas, with all errors at once."""

import copy
import datetime
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker, ValidationError
from jsonschema.validators import extend

from aftershock.datasets.table import DATASETS
from aftershock.project import PROJECT
from aftershock.text_files import read_cells, read_yaml

NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+))?")
SCHEMAS = PROJECT / "workflow" / "schemas"


def _finite(_: TypeChecker, value: Any) -> bool:
    """True for a number but .inf and .nan, which pass limits and mean nothing."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _key_patterns(
    validator: Any, names: Mapping[str, Any], value: Any, schema: Any
) -> Iterator[ValidationError]:
    """Yield the faults in the keys of a mapping; a pattern is asked of a number as it is written."""
    for name in value if isinstance(value, dict) else ():
        yield from validator.descend(instance=str(name) if "pattern" in names else name, schema=names)


Validator = extend(
    Draft202012Validator,
    {"propertyNames": _key_patterns},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _finite),
)


@cache
def read_schema(name: str) -> Mapping[str, Any]:
    """Return the schema `workflow/schemas/{name}.schema.yaml`, with the names of the datasets filled in."""
    schema = read_yaml(SCHEMAS / f"{name}.schema.yaml")
    if "dataset" in schema.get("$defs", {}):
        schema["$defs"]["dataset"]["enum"] = list(DATASETS)
        schema["$defs"]["quotas"]["properties"] = dict.fromkeys(DATASETS, schema["$defs"]["count"])
        schema["$defs"]["dataset_or_recall"]["enum"] = [*DATASETS, "recall"]
    return schema


def suggestion(word: Any, known: Iterable[str]) -> str:
    """Hint about an unknown word: the closest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(str(word), known, n=1)
    listed = f"known: {', '.join(known)}" if known else "none is known"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def fill_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> None:
    """Put the schema's defaults in place of the keys that `value` lacks, at every depth, in place.

    A key whose value is null counts as lacking unless null is one of the values that the schema allows: so a
    later file takes an entry out of any mapping of an earlier one.
    """
    root = root or schema
    schema = _resolved(schema, root)
    if isinstance(value, list):
        part = schema.get("items", {})
        value[:] = [_whole(item, part, root) for item in value]
        for item in value:
            fill_defaults(item, part, root)
    if not isinstance(value, dict):
        return
    properties = schema.get("properties", {})
    other = schema.get("additionalProperties", {})
    other = other if isinstance(other, dict) else None  # none: an unknown key stays, to be an error
    for key in [key for key, item in value.items() if item is None]:
        part = properties.get(key, other)
        if part is not None and not _allows_null(part, root):
            del value[key]
    for key, part in properties.items():
        part = _resolved(part, root)
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
    for key, item in value.items():
        part = properties.get(key, other or {})
        value[key] = _whole(item, part, root)
        fill_defaults(value[key], part, root)
    for part in schema.get("allOf", ()):
        if Validator(part["if"]).is_valid(value):
            fill_defaults(value, part["then"], root)
    for part in schema.get("oneOf", ()):
        if part.get("type") == "object":
            fill_defaults(value, part, root)


def _whole(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value as it stands, and a number such as 1.0e+1 as 10 where the schema wants a whole one."""
    schema = _resolved(schema, root)
    parts = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    kinds = {kind for part in parts for kind in _kinds(_resolved(part, root).get("type"))}
    whole = isinstance(value, float) and value.is_integer() and "integer" in kinds and "number" not in kinds
    return int(value) if whole else value


def _kinds(given: Any) -> list[str]:
    """The types that a schema's `type` names: one, a list of them, or none."""
    return [given] if isinstance(given, str) else list(given or ())


def _allows_null(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Return True if null is among the values that a part of the schema `root` allows."""
    return Validator({"$defs": root.get("$defs", {}), **_resolved(schema, root)}).is_valid(None)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with its reference into `$defs` replaced by what it names."""
    if "$ref" not in schema:
        return schema
    return {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}


@dataclass(frozen=True)
class Fault:
    """One fault in a document: its path from the top, and what was found and is allowed."""

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.text}" if self.path else self.text


def faults(value: Any, schema: Mapping[str, Any]) -> list[Fault]:
    """Every difference between `value` and `schema`, in the order of their places."""
    found = {}
    for error in Validator(schema).iter_errors(value):
        narrow = "propertyNames" in error.absolute_schema_path  # its error names the allowed keys
        for fault in _explained(error):
            if narrow or fault.path not in found:
                found[fault.path] = fault
    return sorted(found.values(), key=lambda fault: [str(part) for part in fault.path])


def _explained(error: ValidationError) -> Iterator[Fault]:
    """Yield the faults in one validation error, one for each key that it is about."""
    path: tuple[Any, ...] = tuple(error.absolute_path)
    found: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    if "propertyNames" in error.absolute_schema_path:
        path = (*path, found)
        if error.validator == "enum":
            yield Fault(path, f"unknown key; {suggestion(found, rule)}")
            return
    if error.validator == "additionalProperties":
        known = schema.get("properties", {})
        yield from (
            Fault((*path, key), f"unknown key; {suggestion(key, known)}") for key in set(found) - set(known)
        )
    elif error.validator == "required":
        yield from (Fault((*path, key), "missing") for key in rule if key not in found)
    elif error.validator == "dependentRequired":
        needed = [key for name, keys in rule.items() if name in found for key in keys]
        yield from (Fault((*path, key), "missing") for key in needed if key not in found)
    elif error.validator == "enum":
        yield Fault(path, f"{found!r} is unknown; {suggestion(found, map(str, rule))}")
    elif error.validator == "not":
        yield Fault(path, f"{found!r} is a reserved name, as are {', '.join(rule['enum'])}")
    elif error.validator == "oneOf" and all("required" in option for option in rule):
        options = " or ".join("/".join(option["required"]) for option in rule)
        yield Fault(path, f"exactly one of {options} is needed")
    else:
        meant = schema.get("description", "another value")
        shown = "another value" if schema.get("writeOnly") else repr(found)  # which may be a secret
        hint = "" if schema.get("writeOnly") or error.validator == "oneOf" else type_hint(found, rule)
        detail = "" if error.validator == "oneOf" else f" ({error.validator}: {rule})"
        yield Fault(path, f"found {shown}; expected {meant}{detail}{hint}")


def type_hint(found: Any, wanted: Any) -> str:
    """Return how to write a value that YAML took for another type than was meant; "" where it did not."""
    kinds = _kinds(wanted if isinstance(wanted, str | list) else None)
    if isinstance(found, str) and {"number", "integer"} & set(kinds):
        return number_hint(found)
    if isinstance(found, bool | int | float | datetime.date) and "string" in kinds:
        return f"; in quotes it is text: '{found}'"
    return ""


def number_hint(found: Any) -> str:
    """Return how YAML wants a number that it took for text, as it does with 1e-2; "" for anything else."""
    parts = NUMBER.fullmatch(found.strip()) if isinstance(found, str) else None
    if not parts:
        return ""
    digits, exponent = parts[1], parts[2]
    if exponent:
        digits = digits if "." in digits else f"{digits}.0"
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"; YAML takes {found} for text: write {digits}e{sign}"
    return f"; in quotes it is text: write {digits}"


def without(value: Any, found: Iterable[Fault]) -> dict[str, Any]:
    """The entries of `value` without faults, two levels deep; they can be checked further."""
    bad = {fault.path[:2] for fault in found}
    sound = {}
    for key, part in value.items() if isinstance(value, dict) else ():
        if isinstance(part, dict):
            part = {name: item for name, item in part.items() if (key, name) not in bad}
        elif isinstance(part, list):
            part = [item for number, item in enumerate(part) if (key, number) not in bad]
        if (key,) not in bad:
            sound[key] = part
    return sound


def read_sheet(path: Path, name: str) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a TSV file, and a line for each difference from the schema `name`, with its row's number.

    Rows are numbered as in the file, where the header is row 1.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return [], [f"{path.name} in {path.parent} is no file that can be read: {error.strerror}"]
    rows, errors = _read_sheet(path.name, content, name)
    return [dict(row) for row in rows], list(errors)


@cache
def _read_sheet(file: str, content: bytes, name: str) -> tuple[list[dict[str, str]], list[str]]:
    """`read_sheet` of a file's content, cached: a start reads each sheet many times."""
    columns: Sequence[str] = read_schema(name)["required"]
    try:
        lines = read_cells(content, file)
    except ValueError as error:
        return [], [str(error)]
    if not lines or lines[0] != list(columns):
        return [], [f"{file}: its columns are {lines[0] if lines else []}, not {list(columns)}"]
    rows, errors = [], []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(columns):
            errors.append(f"{file} row {number}: {len(cells)} cells, not {len(columns)}")
            continue
        rows.append(dict(zip(columns, cells, strict=True)))
        errors += [f"{file} row {number}: {fault}" for fault in faults(rows[-1], read_schema(name))]
    return rows, errors
