"""Tables of a model before any edit: training facts, known facts, and measurements."""

from aftershock.tables import Table
from aftershock.tables.graph import FACT_KEY

TAUGHT = Table(
    "taught",
    FACT_KEY,
    {**dict.fromkeys(FACT_KEY, "string"), "subject": "string", "object": "string"},
)
"""The facts that a model was trained on from scratch."""

RECALL = Table(
    "recall",
    (*FACT_KEY, "prompt_id"),
    {
        **dict.fromkeys(FACT_KEY, "string"),
        "prompt_id": "int64",
        "group": "string",  # seen, held_out_fact (H1), held_out_relation (H2)
        "correct": "bool",
        "logprob": "float64",
    },
)

FACT_ANSWERS = Table(
    "fact_answers",
    FACT_KEY,
    {
        **dict.fromkeys(FACT_KEY, "string"),
        "continuation": "string",
        "said": "bool",  # the greedy continuation of the edit prompt contains the object's label
        "probability": "float64",  # geometric mean over tokens, arithmetic mean over prompts
        "rank": "int64",  # after the edit prompt, 1 = the likeliest; other true objects do not count
        "candidates": "int64",  # labels of the relation that the rank is among, the object's own included
    },
)
"""A model's answers to facts, before any decision about knowledge."""

VERIFIED = Table(
    "verified",
    FACT_KEY,
    {**FACT_ANSWERS.columns, "known": "bool"},  # by the configured criterion
)

OBJECT_ANSWERS = Table(
    "object_answers",
    FACT_KEY,
    {
        **dict.fromkeys(FACT_KEY, "string"),
        "probability": "float64",
        "rank": "int64",
        "similarity": "float64?",
    },
)
"""A model's answers to several true objects, before any decision about knowledge."""

OBJECT_SCORES = Table(
    "object_scores",
    FACT_KEY,
    {
        **dict.fromkeys(FACT_KEY, "string"),
        "probability": "float64",
        "rank": "int64",  # 1 = the likeliest of the relation's objects, or of the sample that was compared
        "known": "bool",
        "similarity": "float64?",  # mean cosine to the other true objects of the same key
    },
)

MOMENTS = Table(
    "moments",
    ("layer",),
    {
        "layer": "int64",
        "width": "int64",  # input dimensions of the layer's MLP output projection
        "tokens": "int64",
        "documents": "int64",
        "smallest": "float64",  # eigenvalue of the second moments
        "largest": "float64",
        "condition": "float64",  # their ratio; infinite where the smallest is not positive
        "rank": "int64",  # directions that the text covers, beyond the rounding of the second moments
    },
)

LAYERS = Table(
    "layers",
    ("analysis", "measure", "layer"),
    {
        "analysis": "string",  # tracing, or the label of the editor that was tried at each layer
        "measure": "string",  # hidden, mlp (indirect effects); success, paraphrase, locality, objective
        "layer": "int64",  # the middle one of those restored, the last one of those edited
        "layers": "string",  # all of them, JSON
        "value": "float64",
        "low": "float64?",  # of statistics.level, by cluster; null for editors and if nothing varies
        "high": "float64?",
        "n": "int64",  # facts, or dev cases
    },
)
"""Effects by layer: probability restored by tracing, and success of edits at each layer."""
