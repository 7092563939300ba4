"""The success of edits, of their paraphrases and of their neighbours at checkpoints of a sequence."""

from collections.abc import Iterable, Sequence

import pandas as pd

from aftershock.experiments.lengths import check_lengths
from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.run import logprob_of
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.progress import Progress
from aftershock.prompts import join
from aftershock.requests import Query
from aftershock.tables.sequences import SEQUENCE_OBSERVATIONS


def probe_checkpoints(
    lm: LanguageModel,
    log: EditLog,
    probes: pd.DataFrame,
    made_at: Iterable[tuple[int, Sequence[int]]],
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return SEQUENCE_OBSERVATIONS of SEQUENCE_PROBES rows at checkpoints.

    `made_at` has each checkpoint with the ids of the edits that the model then has; these are probed. A
    checkpoint that was not reached has no rows.
    """
    made = dict(made_at)
    frames = []
    for n in log.reached(made):
        with at_checkpoint(lm, log, n) as state:
            mine = probes[probes["edit_id"].isin(made[n])]
            frames.append(probe(lm, mine, n, state, progress))
    return pd.concat(frames, ignore_index=True) if frames else SEQUENCE_OBSERVATIONS.empty()


def probe(
    lm: LanguageModel,
    probes: pd.DataFrame,
    checkpoint: int = 0,
    state: State = EMPTY,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return SEQUENCE_OBSERVATIONS of all `probes`, of the model as it is, in `state`."""
    rows = list(probes.itertuples(index=False))
    compared = [row for row in rows if isinstance(row.other, str)]
    check_lengths(
        lm,
        (
            (f"the {row.role} {row.number} of edit {row.edit_id}", join(row.prompt, text))
            for row in rows
            for text in (row.target, row.other)
            if isinstance(text, str)
        ),
    )
    targets = [Query(row.prompt, row.target) for row in rows]
    others = [Query(row.prompt, row.other) for row in compared]
    found = score(lm, targets + others, state, progress)
    keys = [(row.edit_id, row.role, row.number) for row in compared]
    other = dict(zip(keys, found[len(rows) :], strict=True))
    made = []
    for row, s in zip(rows, found, strict=False):
        beside = other.get((row.edit_id, row.role, row.number))
        made.append(
            (
                checkpoint,
                row.edit_id,
                row.role,
                row.number,
                logprob_of(s),
                len(s.token_logprobs),
                s.argmax_match,
                None if beside is None else logprob_of(beside),
                None if beside is None else len(beside.token_logprobs),
            )
        )
    frame = pd.DataFrame(made, columns=list(SEQUENCE_OBSERVATIONS.columns))
    return frame.astype({"other_n_tokens": "Int64", "other_logprob": "float64"})
