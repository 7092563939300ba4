"""Changes of a model for many cases at once, applied while it runs and never written into its weights.

A state is a tuple of deltas, each with a leading case axis. The unedited model is the empty tuple, and a
model after two edits is the deltas of both side by side: undoing an edit is leaving its deltas out.

`delta` has the contract of a delta and its view of a batch. Kinds are one module each: `low_rank`,
`dense`, `rows` and `scale` change weights (`weights` holds what they share), `codebook` replaces outputs of
modules. `state` applies deltas and does everything else that concerns several of them. Only what needs them
imports `context` and `index` (kinds that put text before prompts), `measures` (how large a change is), `fold`
(weights that hold a change for a while), `saved` (deltas as tensors by name) and `export` (folders that other
programs can load).

To add a kind, subclass `CaseTensors` (or meet `Delta` by other means) in a module of its own, decorate it
with `register`, and implement `attach` or `rewrite`; nothing here has a list of kinds.
"""

from aftershock.lm.edits.codebook import Codebook
from aftershock.lm.edits.delta import Batch, CaseTensors, Delta, PromptDecision, register
from aftershock.lm.edits.dense import Dense
from aftershock.lm.edits.low_rank import LowRank
from aftershock.lm.edits.rows import Rows
from aftershock.lm.edits.scale import Scale
from aftershock.lm.edits.state import (
    EMPTY,
    State,
    apply_deltas,
    compact,
    first_layer,
    join,
    merge_many,
    per_token,
    random_like,
    rewrite_prompts,
    scatter_cases,
    select,
    state_norm,
)

__all__ = [
    "EMPTY",
    "Batch",
    "CaseTensors",
    "Codebook",
    "Delta",
    "Dense",
    "LowRank",
    "PromptDecision",
    "Rows",
    "Scale",
    "State",
    "apply_deltas",
    "compact",
    "first_layer",
    "join",
    "merge_many",
    "per_token",
    "random_like",
    "register",
    "rewrite_prompts",
    "scatter_cases",
    "select",
    "state_norm",
]
