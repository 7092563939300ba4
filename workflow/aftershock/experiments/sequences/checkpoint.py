"""The model at a checkpoint of a sequence of edits, from its log.

log = EditLog.open(path, sha256_of_weights(folder))
for n in log.reached(checkpoints):
    with at_checkpoint(lm, log, n) as state:
        score(lm, queries, state)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

from aftershock.experiments.sequences.log import EditLog
from aftershock.lm.edits import State
from aftershock.lm.edits.fold import fold
from aftershock.lm.edits.state import in_weights
from aftershock.lm.model import LanguageModel


@contextmanager
def at_checkpoint(lm: LanguageModel, log: EditLog, n: int) -> Iterator[State]:
    """Context manager: `lm` as `n` edits left it, but for the state that is yielded, which is to be attached.

    Changes of weights are in the weights, and gone afterwards, bit for bit. The state has what no weights can
    hold: codebooks, text before prompts, routes to another model. For most methods it is empty. ValueError
    where the checkpoint was not reached; `EditLog.reached` says so beforehand.
    """
    state = log.scored(n, lm.device)
    held = tuple(takewhile(in_weights, state))
    with fold(lm, held, 0):
        yield state[len(held) :]
