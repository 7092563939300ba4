"""Contradicting requests of one edit: the same prompt with several targets."""

import logging
from collections.abc import Sequence

from aftershock.requests import EditRequest

log = logging.getLogger(__name__)


def conflicts_of(case: Sequence[EditRequest]) -> dict[str, tuple[str, ...]]:
    """Return the prompts of a case that have more than one target, with these in order."""
    targets: dict[str, dict[str, None]] = {}
    for request in case:
        targets.setdefault(request.text, {})[request.target_new] = None
    return {prompt: tuple(several) for prompt, several in targets.items() if len(several) > 1}


def name_conflicts(cases: Sequence[Sequence[EditRequest]]) -> list[dict[str, tuple[str, ...]]]:
    """Return the conflicts of each case, and log how many there are, with the first as an example.

    They are trained on all the same: an edit of several objects of one relation asks for just that.
    """
    found = [conflicts_of(case) for case in cases]
    if some := [conflicts for conflicts in found if conflicts]:
        prompt, targets = next(iter(some[0].items()))
        log.warning(
            "%d of %d cases ask for several targets after one prompt, which no model can all make the "
            "likeliest: %r followed by %s",
            len(some),
            len(cases),
            prompt,
            ", ".join(map(repr, targets)),
        )
    return found
