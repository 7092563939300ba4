"""Tables of a graph: facts, rules, labels, splits, and the relations' prompts."""

from aftershock.tables import Table

FACT_KEY = ("subject_id", "relation_id", "object_id")

SAMPLE = Table("sample", FACT_KEY, dict.fromkeys(FACT_KEY, "string"))
"""Facts between entities, by id, before any filter."""

RELATIONS = Table(
    "relations",
    ("relation_id",),
    {
        "relation_id": "string",
        "facts": "int64",
        "subjects": "int64",
        "objects": "int64",
        "functionality": "float64",  # subjects / facts: 1.0 when every subject has one object
        "inverse_functionality": "float64",  # objects / facts: 1.0 when every object has one subject
    },
)

RULES = Table(
    "rules",
    ("rule",),
    {
        "rule": "string",  # P22>P40 or P25&P26>P22
        "body": "string",  # r, the first body relation
        "body2": "string?",  # r1, null for a binary rule
        "head": "string",
        "support": "int64",
        "head_coverage": "float64",
        "std_confidence": "float64",
        "pca_confidence": "float64",
        "judged": "string?",  # keep or drop, as rules.tsv has it: whether it concludes what is true
        "status": "string",  # keep, drop (by rules.tsv or this run) or review: whether cases are made of it
        "reason": "string?",
    },
)

COMBINATIONS = Table(
    "combinations",
    ("rule", "x_id", "y_id", "z_id"),
    {"rule": "string", "x_id": "string", "y_id": "string", "z_id": "string"},  # binary rules: z is x
)

OBJECTS = Table("objects", FACT_KEY, dict.fromkeys(FACT_KEY, "string"))

TRUE_OBJECTS = Table(
    "true objects",
    FACT_KEY,
    {**dict.fromkeys(FACT_KEY, "string"), "best": "bool"},  # whether a statement of the best rank says so
)
"""Facts about subjects that were not sampled, of relations that cases may edit; of all subjects, facts that
only statements of other ranks say."""

LABELS = Table(
    "labels",
    ("entity_id",),
    {"entity_id": "string", "label": "string?", "language": "string?", "redirect": "string?"},
)

LIVING = Table("living", ("entity_id",), {"entity_id": "string"})

LABEL_SCORES = Table("label scores", ("text",), {"text": "string", "score": "float64"})

FACTS = Table(
    "facts",
    FACT_KEY,
    {
        **dict.fromkeys(FACT_KEY, "string"),
        "subject": "string?",
        "object": "string?",
        "kept": "bool",
        "reason": "string?",
    },
)

INSTANCES = Table(
    "instances",
    ("rule", "x_id", "y_id", "z_id"),
    {**COMBINATIONS.columns, "kept": "bool", "reason": "string?"},
)

PROMPTS = Table(
    "prompts",
    ("relation_id", "prompt_id"),
    {
        "relation_id": "string",
        "prompt_id": "int64",  # 0 is the edit prompt, 1 to 10 are paraphrases
        "template": "string",  # one {} for the subject
        "source": "string",
    },
)

SPLIT = Table(
    "split",
    ("entity_id",),
    {
        "entity_id": "string",  # that can be the subject of an edit; all others belong to every split
        "component": "string",  # the smallest entity that facts tie it to, directly or not
        "split": "string",  # train, dev or test
        "assigned": "string",  # with its whole component, or by a cut through it
    },
)

PARAPHRASE_REQUESTS = Table(
    "paraphrase_requests",
    ("relation_id", "request"),
    {
        "relation_id": "string",
        "request": "int64",  # 1 is the first; more where an answer did not hold enough
        "backend": "string",  # openai or local
        "base_url": "string?",
        "model": "string",  # as asked for
        "model_returned": "string?",  # as the service calls it, with its version
        "request_id": "string?",
        "temperature": "float64?",
        "seed": "int64?",
        "asked": "int64",  # texts asked for
        "returned": "int64",
        "kept": "int64",  # that are candidates
        "problem": "string?",
        "finish": "string?",  # why the answer ended: stop, length, content_filter
        "prompt_tokens": "int64?",
        "completion_tokens": "int64?",
        "cost": "float64?",  # when the answer was paid for, in the currency of the configured prices
    },
)

PARAPHRASE_CANDIDATES = Table(
    "paraphrase_candidates",
    ("relation_id", "candidate"),
    {
        "relation_id": "string",
        "candidate": "int64",
        "request": "int64",
        "template": "string",  # as it came, its hidden characters written out
        "kept": "bool",
        "reason": "string?",  # why it is no paraphrase
    },
)

PARAPHRASE_SCORES = Table(
    "paraphrase_scores",
    ("relation_id", "candidate"),
    {
        "relation_id": "string",
        "candidate": "int64",
        "logprob": "float64",  # of true objects under the ranking model, per token, mean over facts
        "facts": "int64",
    },
)

PARAPHRASES = Table(
    "paraphrases",
    ("relation_id", "candidate"),
    {
        **PARAPHRASE_CANDIDATES.columns,
        "rank": "int64?",  # 1 differs most from existing templates; null is not chosen
        "ranking_model": "string?",
        "logprob": "float64?",
        "facts": "int64?",
    },
)
