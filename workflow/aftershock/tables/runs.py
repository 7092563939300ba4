"""Tables of editing runs: observations, and scores by case."""

from aftershock.tables import Table

OBSERVATIONS = Table(
    "observations",
    ("case_id", "state", "probe_id", "prompt_id"),
    {
        "case_id": "int64",
        "state": "string",  # 0, 1, 2, e2_only, control, random
        "probe_id": "int64",
        "prompt_id": "int64",
        "logprob": "float64",  # sum over the target's tokens, natural log
        "n_tokens": "int64",
        "token_logprobs": "list<float64>",
        "argmax_match": "bool",  # every target token is the likeliest one
        "tokens_matched": "int64",  # target tokens that are the likeliest one after those before them
        "continuation": "string?",  # greedy continuation of the prompt, where requested
    },
)

TELEMETRY = Table(
    "telemetry",
    ("case_id", "state"),
    {
        "case_id": "int64",
        "state": "string",
        "steps": "int64",
        "loss": "float64?",  # null for a random change and where it was not finite
        "delta_norm": "float64",
        "reason": "string?",  # why the edit failed
    },
)

HEALTH = Table(
    "health",
    ("case_id", "state", "module"),
    {
        "case_id": "int64",
        "state": "string",
        "module": "string",  # whose weight changes; other changes have no norms
        "norm": "float64?",  # Frobenius, of the change since the unedited model, without the bias
        "relative": "float64?",  # to that of the weight
        "touched": "float64?",  # share of the weight's rows whose change is no less than 1 % of them
        "rank": "int64?",  # numerical; null for a change of a whole matrix
        "condition": "float64?",  # of the equations that the change was solved from, the worst of all edits
        "nll": "float64?",  # mean of a text's tokens in this state, all changes together; in some cases only
        "unedited_nll": "float64?",  # the same before any edit
    },
)
"""Sizes of edits, and the perplexity after them; of cases whose edits all worked."""

SERAC_CURVE = Table(
    "serac_curve",
    ("step",),
    {
        "step": "int64",  # batches so far
        "seconds": "float64",
        "train_scope": "float64",  # mean loss of the batches since the row before: of scopes, or elsewhere
        "train_answer": "float64",  # of the edits' targets
        "val_scope": "float64",
        "val_answer": "float64",
        "val_total": "float64",  # the state with the lowest value is kept
        "in_scope": "float64",  # share of dev edits whose own prompt is classified as in scope
        "out_of_scope": "float64",  # share of other dev texts that are classified as out of scope
        "success": "float64",  # share of dev targets that are greedy in the counterfactual model
    },
)
MEND_CURVE = Table(
    "mend_curve",
    ("step",),
    {
        "step": "int64",  # batches so far
        "seconds": "float64",
        "train_edit": "float64?",  # mean loss of the batches since the row before
        "train_local": "float64?",
        "val_edit": "float64",  # negative log-probability of dev targets after other wordings
        "val_local": "float64",  # divergence from the unedited model on dev texts
        "val_total": "float64",  # the state with the lowest value is kept
        "success": "float64",  # share of dev targets that are greedy
        "locality": "float64?",  # share of greedy dev texts that are still greedy; null when none was
        "skipped": "int64",  # batches left out so far, their gradient not being finite
    },
)

TRIALS = Table(
    "trials",
    ("trial",),
    {
        "trial": "int64",
        "settings": "string",  # JSON
        "success": "float64",
        "paraphrase": "float64",
        "locality": "float64",
        "objective": "float64",
        "chosen": "bool",
        "measured": "string?",  # JSON: values of `auto` settings, by layer
    },
)

PRECISION = Table(
    "precision",
    ("dataset", "metric"),
    {
        "dataset": "string",
        "metric": "string",
        "cases": "int64",
        "strict": "float64",  # mean over the cases
        "reduced": "float64",
        "points": "float64",  # 100 * (reduced - strict)
        "accepted": "bool",
    },
)

PROBABILITIES = Table(
    "probabilities",
    ("case_id", "role", "position", "state"),
    {
        "case_id": "int64",
        "role": "string",
        "position": "int64",
        "state": "string",
        "subject": "string",
        "relation_id": "string",
        "object": "string",
        "prompts": "string",  # all, or edit when only the edit prompt was scored
        "n_tokens": "int64",  # of the object
        "probability": "float64",  # geometric mean over tokens, arithmetic mean over the scored prompts
        "log_probability": "float64",  # its natural log, also where it is too small for a number
        "edit_probability": "float64",  # of the edit prompt alone
        "paraphrase_probability": "float64?",  # mean over the paraphrases
        "joint_probability": "float64",  # the same three of the product over tokens
        "joint_edit_probability": "float64",
        "joint_paraphrase_probability": "float64?",
        "first_probability": "float64",  # the same three of the first token
        "first_edit_probability": "float64",
        "first_paraphrase_probability": "float64?",
        "exact": "bool",  # greedy decoding gives the object after the edit prompt
        "paraphrase": "float64?",  # share of the ten paraphrases for which it does
        "held_out": "float64?",  # share of the last three of them
        "token_accuracy": "float64",  # share of the object's tokens that greedy decoding gives, edit prompt
        "paraphrase_token_accuracy": "float64?",  # mean over the paraphrases
        "continuation": "string?",  # greedy continuation of the edit prompt, where recorded
        "generated": "bool?",  # it begins with the object; null where it ends within
    },
)

SCORES = Table(
    "scores",
    ("case_id", "metric"),
    {"case_id": "int64", "metric": "string", "value": "float64?"},
)

VARIANTS = Table(
    "variants",
    ("case_id", "metric", "scoring", "prompts"),
    {
        "case_id": "int64",
        "metric": "string",
        "scoring": "string",  # of an object's tokens: geometric_mean (as in SCORES), joint, first_token
        "prompts": "string",  # all (as in SCORES), edit, paraphrases
        "value": "float64?",
    },
)
"""The headline metrics under other ways to turn tokens and prompts into one probability."""

FACETS = Table(
    "facets",
    ("case_id", "facet"),
    {"case_id": "int64", "facet": "string", "level": "string"},
)
"""Facets of cases, see `metrics/facets.py`; a case whose facet is unknown has no row."""

HOLES = Table(
    "holes",
    ("case_id", "state"),
    {
        "case_id": "int64",
        "state": "string",
        "shard": "string",  # its range, or unedited
        "reason": "string",
        "failed": "bool",  # the edit failed; otherwise the observations are faulty
    },
)
"""Every state of a case that could not be scored, and why."""
