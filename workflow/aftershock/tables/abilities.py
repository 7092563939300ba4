"""Effects of sequences of edits on tasks and on the edits themselves: items, curves and collapses."""

from aftershock.tables import Table

ITEM_ANSWERS = Table(
    "item_answers",
    ("task", "checkpoint", "item_id"),
    {
        "task": "string",
        "checkpoint": "int64",  # edits made; 0 for the unedited model
        "item_id": "string",
        "cluster": "string",  # items of one cluster share a text or a subject
        "about_edit": "bool",  # it asks about a fact that the sequence edits, and counts in no value
        "n_choices": "int64",  # 0 for a generated answer
        "gold": "string?",  # the right class or answer; null where each item has choices of its own
        "prediction": "string?",  # the class or answer that was given; null where none could be read
        "parsed": "bool",  # an answer could be read
        "repetition": "float64?",  # share of repeated n-grams in the generated text
        "truncated": "int64",  # tokens cut from the beginning of the prompt
    },
)
"""The answer to each item of a task, read with its headline metric."""

ITEM_SCORES = Table(
    "item_scores",
    ("task", "checkpoint", "item_id", "metric"),
    {
        "task": "string",
        "checkpoint": "int64",
        "item_id": "string",
        "metric": "string",
        "group": "string?",
        "value": "float64?",
        "parsed": "bool",
        "prediction": "string",
        "gold": "string",
        "hits": "float64?",
        "found": "float64?",
        "wanted": "float64?",
    },
)
"""TASK_SCORES of all tasks of a sequence."""

ITEM_EXAMPLES = Table(
    "item_examples",
    ("task", "item_id", "checkpoint"),
    {
        "task": "string",
        "item_id": "string",
        "checkpoint": "int64",
        "question": "string",
        "gold": "string",  # right answers, a line each
        "text": "string",  # the generated text, or the likeliest choice
        "prediction": "string?",
        "value": "float64?",  # of the headline metric
    },
)
"""Randomly drawn items, with the model's output at every checkpoint."""

SEQUENCE_SCORES = Table(
    "sequence_scores",
    ("checkpoint", "edit_id", "measure"),
    {
        "checkpoint": "int64",
        "edit_id": "int64",
        "measure": "string",  # see metrics/abilities/edits.py
        "age": "int64",  # edits made since this one, those of its own turn left out
        "latest": "bool",  # it was made after the checkpoint before
        "cluster": "string",  # edits of one subject
        "value": "float64?",
    },
)
"""Efficacy of the edits of a sequence at checkpoints, an edit at a time."""

SEQUENCE_HEALTH = Table(
    "sequence_health",
    ("checkpoint",),
    {
        "checkpoint": "int64",
        "edits": "int64",  # that were made by then
        "failed": "int64",  # of them with a reason
        "norm": "float64?",  # of all changes
        "relative_norm": "float64?",  # the largest over modules since the checkpoint before
        "condition": "float64?",  # the worst since the checkpoint before
        "perplexity": "float64?",  # of the fixed text, in those of the unedited model
        "perplexity_worst": "float64?",  # since the checkpoint before
        "jump": "float64?",  # the largest growth of it from one measurement to the next
        "seconds": "float64",  # of all edits so far
        "ended_at": "int64?",  # edits after which the sequence stopped early
        "reason": "string?",  # why it did
    },
)
"""The health of a sequence at its checkpoints."""

AMONG_SCORES = Table(
    "among_scores",
    ("measure", "checkpoint", "unit"),
    {
        "measure": "string",  # a metric, where the edits are, and the dataset: ignore_rate:between:round_easy
        "checkpoint": "int64",  # unrelated edits
        "unit": "int64",  # the case
        "cluster": "string",
        "value": "float64?",
    },
)
"""Metrics of cases with more and more unrelated edits before, between or after theirs."""

ESTIMATE = {
    "value": "float64?",
    "low": "float64?",
    "high": "float64?",
    "n": "int64",
    "clusters": "int64",
    "low_with_orders": "float64?",  # as items and orders vary; null for a single order
    "high_with_orders": "float64?",
}
PLACE = dict.fromkeys(("model", "plan", "editor", "order"), "string")
"""The order is its seed, or `all`: the mean over all."""

ABILITIES = Table(
    "abilities",
    ("model", "plan", "editor", "order", "task", "checkpoint", "metric"),
    {
        **PLACE,
        "task": "string",
        "checkpoint": "int64",
        "metric": "string",
        "headline": "bool",  # the task's own metric
        **ESTIMATE,
        "orders": "int64",
        "chance": "float64?",  # of guessing among the choices
        "majority": "float64?",  # of always giving the commonest answer
        "floor": "float64?",  # score of an accidental answer; see metrics/abilities/floors.py
        "unedited": "float64?",
        "above_chance": "bool?",  # the unedited model does it better than by accident
        **dict.fromkeys(("difference", "difference_low", "difference_high"), "float64?"),  # from unedited
        "test": "string?",
        **dict.fromkeys(("p", "p_adjusted"), "float64?"),
        "significant": "bool?",
        **dict.fromkeys(("retained", "retained_low", "retained_high"), "float64?"),
        "parsed": "float64?",  # share of the answers
        **dict.fromkeys(("entropy", "unedited_entropy"), "float64?"),  # bits, of the answers
        **dict.fromkeys(("repetition", "unedited_repetition"), "float64?"),
        "left_out": "int64",  # items about edited facts
        "truncated": "int64",  # items whose prompt was cut
        "note": "string?",
    },
)
"""Every metric of every task along a sequence, with accidental scores and the unedited model's."""

CURVES = Table(
    "curves",
    ("model", "plan", "editor", "order", "measure", "age", "checkpoint"),
    {**PLACE, "measure": "string", "age": "string", "checkpoint": "int64", **ESTIMATE, "orders": "int64"},
)
"""Retention of edits, and the health of the model, along a sequence."""

COLLAPSES = Table(
    "collapses",
    ("model", "plan", "editor", "order", "task"),
    {
        **PLACE,
        "task": "string",  # or `all tasks`: the mean of what they retain
        "kind": "string",  # none, gradual, abrupt, unclear, not measured
        "checkpoint": "int64?",  # the first one beyond the threshold
        "before": "int64?",  # the one measured before it
        "retained_before": "float64?",
        **dict.fromkeys(("retained", "retained_low", "retained_high"), "float64?"),
        "ended_at": "int64?",
        "reason": "string?",  # why the sequence ended early
        "note": "string?",
    },
)
"""Checkpoints at which a task, or all of them together, are lost."""

SWITCHES = Table(
    "switches",
    ("switch", "model", "plan", "editor", "task"),
    {
        "switch": "string",
        **dict.fromkeys(("one", "other"), "string"),  # its two settings
        **dict.fromkeys(("model", "plan", "editor", "task"), "string"),  # of what is switched, both
        "one_lost_at": "int64?",  # edits after which all is lost; null where it is not
        "other_lost_at": "int64?",
        "effect": "string",
        "checkpoint": "int64?",  # the last one that both have
        "one_retained": "float64?",  # there
        "other_retained": "float64?",
    },
)
"""Points of collapse under two settings that differ in one thing."""

JUDGED_ANSWERS = Table(
    "judged_answers",
    ("model", "plan", "editor", "task", "checkpoint", "judge", "prompt_sha256"),
    {
        **dict.fromkeys(("model", "plan", "editor", "task"), "string"),
        "checkpoint": "int64",
        "metric": "string",  # the task's own
        "exact": "float64?",  # its mean
        "judged": "float64?",  # share of the answers that the judge takes for correct
        **dict.fromkeys(("low", "high"), "float64?"),  # of that share
        "agreement": "float64?",  # share of answers on which both say the same; of metrics of 0 and 1
        "kappa": "float64?",  # Cohen's: agreement beyond chance
        "n": "int64",  # answers of all orders
        "unjudged": "int64",  # of them without a verdict
        "orders": "int64",
        "judge": "string",
        "prompt_sha256": "string",  # of the instruction that it was given
    },
)
"""Exact match of generated answers beside the verdicts of a judge."""

REPORTED_ABILITIES = Table(
    "reported_abilities",
    (
        "study",
        "reported_model",
        "reported_method",
        "mode",
        "batch",
        "reported_task",
        "edits",
        "model",
        "plan",
        "editor",
        "task",
    ),
    {
        **dict.fromkeys(("study", "reported_model", "reported_method", "mode"), "string"),
        "batch": "int64",
        "reported_task": "string",
        "edits": "int64",
        "reported": "float64",
        "flag": "string?",  # what is odd about the reported figure
        **dict.fromkeys(("model", "plan", "editor", "task"), "string"),  # of this run; empty without a match
        **dict.fromkeys(("value", "low", "high", "difference"), "float64?"),
        "note": "string?",  # what differs, or why nothing is compared
    },
)
"""Reported results, beside those of this run where model, method, task, protocol and mode match."""

ABILITY_CLAIMS = Table(
    "ability_claims",
    ("claim", "part"),
    {
        "claim": "string",
        "part": "string",  # what is compared, or "all parts together"
        "statement": "string",
        "estimand": "string",
        "verdict": "string",  # supported, not supported, not testable with this run
        "evidence": "string",
        **dict.fromkeys(("value", "low", "high"), "float64?"),
        "n": "int64",
        "source": "string",
    },
)
"""Claims of studies of general abilities, and their verdicts in this run."""

SEQUENCE_TABLES = {
    "abilities": ABILITIES,
    "curves": CURVES,
    "collapses": COLLAPSES,
    "reported_abilities": REPORTED_ABILITIES,
}
"""Tables of a report that figures along sequences are drawn from, by file name."""
