"""Tables of sequences of edits, and of benchmark tasks along them."""

from aftershock.tables import Table
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY

SEQUENCE_EDITS = Table(
    "sequence_edits",
    ("edit_id",),
    {
        "edit_id": "int64",  # place in the source
        "source_id": "string",  # its name there
        "prompt": "string",  # with a slot for the subject
        "subject": "string",
        "target_new": "string",
        "target_true": "string",  # empty where the source has none
        "relation": "string?",
        "kept": "bool",  # it is part of the plan
        "reason": "string?",  # why it is odd or left out: duplicate, same_subject, contradiction, broken, ...
    },
)
"""The edits that a plan may make, in the order of their source."""

SEQUENCE_PROBES = Table(
    "sequence_probes",
    ("edit_id", "role", "number"),
    {
        "edit_id": "int64",
        "role": "string",  # edit, paraphrase, neighbour
        "number": "int64",
        "prompt": "string",  # the whole text
        "target": "string",  # the correct answer after the edit: the new object, or a neighbour's own
        "other": "string?",  # the object compared with: the true one, or the new one for a neighbour
    },
)
"""Probes of each edit of a plan at checkpoints."""

SEQUENCE_TELEMETRY = Table(
    "sequence_telemetry",
    ("turn", "position"),  # in mode single every checkpoint makes its edits anew
    {
        "position": "int64",  # 1 for the first edit of this order
        "edit_id": "int64",
        "turn": "int64",  # edits of one turn are made together
        "success": "bool",  # greedy decoding gives the new object after the edit prompt, right after its turn
        "logprob": "float64",  # of the new object there, summed over tokens
        "steps": "int64",
        "loss": "float64?",
        "norm": "float64",  # of the turn's change
        "relative_norm": "float64?",  # the largest over modules, in norms of the unedited weight
        "total_norm": "float64",  # of all changes since the unedited model
        "condition": "float64?",  # of the equations that the turn was solved from, the worst
        "seconds": "float64",  # of the turn
        "nll": "float64?",  # mean of a text's tokens after the turn; see experiments.health
        "unedited_nll": "float64?",
        "reason": "string?",  # why the edit failed
    },
)
"""Log of a sequence: measurements of each edit right after it was made."""

SEQUENCE_OBSERVATIONS = Table(
    "sequence_observations",
    ("checkpoint", "edit_id", "role", "number"),
    {
        "checkpoint": "int64",  # edits made; 0 for the unedited model
        "edit_id": "int64",
        "role": "string",
        "number": "int64",
        "logprob": "float64",  # of the probe's target, summed over tokens
        "n_tokens": "int64",
        "argmax_match": "bool",  # greedy decoding gives it
        "other_logprob": "float64?",
        "other_n_tokens": "int64?",
    },
)
"""Scores of the probes of edits at checkpoints."""

AROUND = {"edits": "int64"}  # of a plan, before, between or after those of the case
AMONG_OBSERVATIONS = Table(
    "among_observations", ("edits", *OBSERVATIONS.key), {**AROUND, **OBSERVATIONS.columns}
)
"""OBSERVATIONS of cases with edits of a plan around theirs; see experiments/sequences/among.py."""

AMONG_TELEMETRY = Table("among_telemetry", ("edits", *TELEMETRY.key), {**AROUND, **TELEMETRY.columns})
"""TELEMETRY of the same cases."""

TASK_ITEMS = Table(
    "task_items",
    ("item_id",),
    {
        "item_id": "string",
        "group": "string?",  # a subject, a subtask, a type of entity
        "prompt": "string",  # all that the model reads, examples included; empty for a whole text
        "question": "string",  # the item's own part of it
        "choices": "list<string>",  # continuations of the prompt; none for generation
        "gold": "int64?",  # the place of the right one
        "answers": "list<string>",  # references of a generated answer; the text to be scored whole
        "about": "list<string>",  # names whose facts it asks for, where that is known
    },
)
"""The items of a task as a model is asked them."""

TASK_OUTPUTS = Table(
    "task_outputs",
    ("checkpoint", "item_id"),
    {
        "checkpoint": "int64",
        "item_id": "string",
        "logprobs": "list<float64>",  # of each choice, summed over tokens; one entry for a text scored whole
        "n_tokens": "list<float64>",
        "greedy": "list<bool>",  # greedy decoding gives the choice
        "text": "string?",  # the generated text
        "finished": "bool?",  # generation ended before the limit: a stop text, or the end of a document
        "truncated": "int64",  # tokens cut from the beginning of a prompt too long for the model
    },
)
"""A model's outputs for the items of a task at checkpoints."""

TASK_SCORES = Table(
    "task_scores",
    ("checkpoint", "item_id", "metric"),
    {
        "checkpoint": "int64",
        "item_id": "string",
        "metric": "string",
        "group": "string?",
        "value": "float64?",  # of this item; see tasks.metrics for the value of many
        "parsed": "bool",  # there is an answer in the output
        "prediction": "string",
        "gold": "string",  # the right choice, or the first answer
        "hits": "float64?",  # with the next two: counts that many items add up
        "found": "float64?",
        "wanted": "float64?",
    },
)
"""The metrics of a task's items at checkpoints."""

TASK_VERDICTS = Table(
    "task_verdicts",
    ("checkpoint", "item_id"),
    {
        "checkpoint": "int64",
        "item_id": "string",
        "correct": "bool?",  # missing where the judge gave no verdict
        "judge": "string",  # the model that judged
        "prompt_sha256": "string",  # of the instruction it was given
    },
)
"""Another model's judgements of generated answers."""
