"""Options of values on recorded cases: one norm (NAS), and contexts that should not differ (CORE)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contexts import PLAIN
from aftershock.lm.optimisation.objective import trimmed_mean
from aftershock.lm.optimisation.values import solve_values
from recorded import CLOSED_FORM, VALUE, Check, NotCoveredError, Recorded, relative, without
from recorded_multi_layer import check_edits, make

LIMIT = 2.0  # norms from which on a value is left out (constant of the released code)
SHARES = (0.95, 0.9)  # of the norms that the released code takes the mean of, and that a case takes


def check_nas(case: Recorded) -> Iterator[Check]:
    """AlphaEdit with values of one norm, or the norms alone where a case has no edit."""
    # whether the norm is in use, and the number of values that it was averaged over
    case, taken = without(case, "use_nas", "nas_restart")
    if not case.part("delta"):
        yield from _norm_checks(case)
        return
    options: dict[str, Any] = {"variant": "released"}  # solved as the release does, in float32
    if taken.get("use_nas", True) and (norm := case.inputs.get("n_bar") or 0) > 0:
        options |= {"norm_anchor": norm, "norm_anchor_limit": LIMIT}
    yield from check_edits(case, make(case, "alphaedit", **options))


def check_core(case: Recorded) -> Iterator[Check]:
    """MEMIT with a penalty on contexts that differ; these are recorded."""
    case, hparams = without(case, "reg_lambda", "layer_range", "context", "ctx_num", "ctx_len", "ctx_top_k")
    if hparams.get("context") is not None:  # then each request has contexts of its own
        raise NotCoveredError(f"context {hparams['context']}")
    options = {"context_penalty": hparams["reg_lambda"], "context_layers": hparams["layer_range"]}
    yield from check_edits(case, make(case, "memit", **options))


def _norm_checks(case: Recorded) -> Iterator[Check]:
    """The norm of each value optimised by itself, and their mean without the largest.

    A case also has the norms of values that were optimised in batches, on their mean loss, which are others;
    its mean may be of either. It has to hold ours among its rows of norms, and our mean of one of the rows
    among its numbers.
    """
    method = "alphaedit" if "L2" in case.inputs["hparams"] else "memit"
    editor = make(case, method)
    found = solve_values(case.lm, case.requests, [PLAIN], editor.objective(max(editor.settings.layers)))
    rows, numbers = _numbers(case)
    rows = [row for row in rows if len(row) == len(case.requests)]
    if not rows or not numbers:
        raise NotCoveredError("a case without an edit and without norms of values")
    yield Check("norms", min(relative(found.norms, row) for row in rows), VALUE)
    means = [trimmed_mean(row.double(), share) for row in rows for share in SHARES]
    error = min(abs(number / mean - 1) for number in numbers for mean in means)
    yield Check("mean norm given norms", error, CLOSED_FORM)


def _numbers(case: Recorded) -> tuple[list[Tensor], list[float]]:
    """All rows of numbers, and all numbers by themselves, that a case recorded."""
    rows, numbers = [], []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for inner in value.values():
                look(inner)
        elif isinstance(value, float):
            numbers.append(value)
        elif isinstance(value, list) and all(isinstance(x, float) for x in value):
            rows.append(torch.tensor(value))
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look({**case.inputs, **case.outputs})
    rows += [tensor for tensor in case.tensors.values() if tensor.ndim == 1]
    numbers += [float(tensor) for tensor in case.tensors.values() if tensor.ndim == 0]
    return rows, numbers
