"""Facts as statements, for methods that put text before prompts. Nothing here loads a tensor library."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from aftershock.prompts import join
from aftershock.requests import EditRequest

FACT = "{fact}"


def _with_one_fact(template: str) -> str:
    if template.count(FACT) != 1:
        raise ValueError(f"it needs {FACT} exactly once, where prompt and target go")
    return template


StatementTemplate = Annotated[str, AfterValidator(_with_one_fact)]
"""A statement with FACT in place of an edit's prompt and target."""

Order = Literal["newest_last", "newest_first"]

Reserve = Annotated[int, Field(ge=1)]
"""Tokens that are kept free in the model's context behind a prompt with statements, for its target."""


def state_fact(request: EditRequest, template: str) -> str:
    """Return the statement of a request's new fact; whatever braces its labels hold stay as they are."""
    before, after = template.split(FACT)
    return before + join(request.text, request.target_new) + after


def give_example(request: EditRequest, template: str, separator: str) -> str:
    """Return the statement of a fact, followed by the fact as a prompt with its answer."""
    return state_fact(request, template) + separator + join(request.text, request.target_new) + "."


def draw_others(
    others: Sequence[EditRequest], case: Sequence[EditRequest], count: int, seed: int
) -> list[EditRequest]:
    """Return `count` of the edits of other cases, or as many as there are, none about a subject of `case`.

    They come in an order that depends on the seed alone, so that a case has the same beside any others.
    """
    own = {request.subject for request in case}
    found: Iterator[EditRequest] = (
        others[place]
        for place in Random(seed).sample(range(len(others)), len(others))
        if others[place].subject not in own
    )
    return [request for _, request in zip(range(count), found, strict=False)]
