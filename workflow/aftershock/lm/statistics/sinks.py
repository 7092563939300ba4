"""Norm of the residual stream at a prompt's first token, relative to that at later ones.

Many models keep an attention sink at the first position, whatever token stands there. A subject of one token
that opens a text cannot be edited then: a change drowns in a stream that hardly depends on the subject. Some
tokens in front take the sink over, and some do not.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.value_problem import ESSENCE
from aftershock.prompts import SLOT, fill

TEXTS = 32


def describe_beginning(lm: LanguageModel, subjects: Iterable[str]) -> dict[str, Any]:
    """Return a record of what texts begin with, and the ratio of `first_token` on some of `subjects`."""
    return {
        "document_token": lm.document_token,
        "begins_with": lm.tokenizer.convert_ids_to_tokens(list(lm.leading)),
        "template": lm.frame.put(SLOT) if lm.prompt_format == "chat" else None,
        "first_token": first_token(lm, subjects),
    }


@torch.no_grad()
def first_token(lm: LanguageModel, subjects: Iterable[str]) -> float | None:
    """Return the ratio of the stream's norm at a prompt's first token to that at later ones; two digits.

    Medians over prompts that open with one of `subjects`, in the layer where that is most. What stands in
    front of every text is neither. None where no prompt has a token after its first, or fits the model.
    """
    prompts = [fill(ESSENCE, subject) for subject in sorted(set(subjects))[:TEXTS]]
    read, offset = lm.read_prompts([(prompt, None) for prompt in prompts]), len(lm.frame.before)
    found = [(ids, _first(spans, offset)) for ids, spans in read if len(ids) <= lm.context]
    found = [(ids, first) for ids, first in found if first < len(ids) - 1]
    if not found:
        return None
    ids, mask = lm.pad([ids for ids, _ in found])
    layers = [lm.layer(number) for number in range(lm.n_layers)]
    with record_activations(lm, outputs=layers) as seen:
        lm.run(ids, mask, use_cache=False)
    first = torch.tensor([[first] for _, first in found], device=lm.device)
    places = torch.arange(ids.shape[1], device=lm.device)
    later = mask.bool() & (places > first)
    ratios = []
    for name in layers:
        norms = seen["out", name].to(lm.device).float().norm(dim=-1)
        ratios.append((norms.gather(1, first).median() / norms[later].median()).item())
    return float(f"{max(ratios):.2g}")


def _first(spans: Sequence[tuple[int, int]], offset: int) -> int:
    """Index of the first token that reaches beyond `offset` characters."""
    return next((i for i, (_, last) in enumerate(spans) if last > offset), len(spans))
