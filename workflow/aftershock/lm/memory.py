"""Batch sizes: as many rows as a memory budget holds, fewer when memory still runs out."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from aftershock.lm.model import LanguageModel

CPU_BYTES = 1 << 30  # the same on every machine, so that batches and their rounding are
DEVICE_SHARE = 0.6  # share of an accelerator's memory beside the weights; the rest is for uncounted tensors
NOT_KEPT = "not enough memory", "can't allocate memory", "out of memory"

Result = TypeVar("Result")


def byte_budget(lm: LanguageModel) -> int:
    """Memory budget of a batch in bytes, from an accelerator's whole memory, not what is free now."""
    if lm.device.type != "cuda":
        return CPU_BYTES
    weights = sum(p.numel() * p.element_size() for p in lm.model.parameters() if p.device == lm.device)
    return int(DEVICE_SHARE * (torch.cuda.get_device_properties(lm.device).total_memory - weights))


def batch_limit(lm: LanguageModel, token_bytes: int, cpu_tokens: int) -> int:
    """Bytes of a batch of `token_bytes` a token; more than `cpu_tokens` tokens are no faster on a CPU."""
    budget = byte_budget(lm)
    return budget if lm.device.type == "cuda" else min(budget, cpu_tokens * token_bytes)


def token_bytes(lm: LanguageModel, layers: int, keys: int, backward: bool) -> int:
    """Bytes that one token takes in a pass through `layers` layers, attending to `keys` positions.

    Without a backward pass one layer's intermediates are alive at a time. Counted are the widths that a layer
    outputs: four times its input and output, queries, keys, values, three times the MLP's inner width, and
    two scores per head and key.
    """
    inner = lm.weight(lm.projection(lm.n_layers - 1)).shape[1]
    heads = lm.model.config.num_attention_heads
    numbers = 10 * lm.d_model + 3 * inner + 2 * heads * keys
    return numbers * lm.dtype.itemsize * (layers if backward else 1)


def run_in_parts(
    costs: Sequence[int],
    limit: int,
    run: Callable[[range], Result],
    what: str,
    alone: Callable[[range], Result] | None = None,
) -> list[tuple[range, Result]]:
    """Results of `run` on consecutive ranges of rows, each padded to its largest cost within `limit`.

    A range that runs out of memory is halved, and so are those after it. A row that does not fit by itself is
    given to `alone`, a slower way that needs less; MemoryError says how much it needed when that fails too.
    """
    made: list[tuple[range, Any]] = []
    start = 0
    while start < len(costs):
        part = _next_part(costs, start, limit)
        found, failed = _attempt(run, part)
        if failed is not None and len(part) == 1 and alone is not None:
            found, failed = _attempt(alone, part)
        if failed is not None and len(part) == 1:
            raise MemoryError(
                f"{what} ran out of memory with a single case, which needs about "
                f"{costs[start] / 2**30:.2f} GiB beside the weights ({failed})"
            )
        if failed is not None:
            limit = max(costs[part.start : part.stop]) * ((len(part) + 1) // 2)
            continue
        made.append((part, found))
        start = part.stop
    return made


def _next_part(costs: Sequence[int], start: int, limit: int) -> range:
    """The longest range from `start` whose size times largest cost is within `limit`; one row at least."""
    stop, largest = start + 1, costs[start]
    while stop < len(costs) and max(largest, costs[stop]) * (stop + 1 - start) <= limit:
        largest = max(largest, costs[stop])
        stop += 1
    return range(start, stop)


def _attempt(run: Callable[[range], Result], part: range) -> tuple[Result | None, str | None]:
    """Result of `run` on `part`, or the message of the memory error that it ended in."""
    try:
        return run(part), None
    except (RuntimeError, MemoryError) as error:
        message = str(error)
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not any(
            sign in message for sign in NOT_KEPT
        ):
            raise
    gc.collect()  # outside the handler, which keeps the frames and their tensors alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None, message.splitlines()[0] if message else "no message"
