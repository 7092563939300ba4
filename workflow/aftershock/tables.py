"""The schema of every parquet file, declared once.

Stages read and write through these tables, so a wrong column, type or key fails in the stage that made it.
One row per observation (long form), one table per meaning. A type ending in `?` may be null.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aftershock.output import whole_file

ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<float64>": pa.list_(pa.float64()),
}


@dataclass(frozen=True)
class Table:
    """Columns, their types and the key of one kind of parquet file."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, in column order."""
        return pa.schema(
            pa.field(column, ARROW_TYPES[kind.rstrip("?")], nullable=kind.endswith("?"))
            for column, kind in self.columns.items()
        )

    def check(self, frame: pd.DataFrame) -> pa.Table:
        """Return `frame` as an Arrow table of this schema; raise ValueError on any difference."""
        missing = [c for c in self.columns if c not in frame.columns]
        surplus = [c for c in frame.columns if c not in self.columns]
        if missing or surplus:
            raise ValueError(f"table {self.name}: missing columns {missing}, unknown columns {surplus}")
        for column, kind in self.columns.items():
            empty = frame[column].isna().to_numpy()
            if not kind.endswith("?") and empty.any():
                raise ValueError(f"table {self.name}: column {column} is empty in row {empty.argmax()}")
        try:
            arrow = pa.Table.from_pandas(frame[list(self.columns)], schema=self.schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"table {self.name}: {error}") from error
        repeated = frame.duplicated(list(self.key))
        if repeated.any():
            first = frame.loc[repeated, list(self.key)].iloc[0].to_dict()
            raise ValueError(f"table {self.name}: {int(repeated.sum())} repeated keys, the first is {first}")
        return arrow

    def write(
        self, frame: pd.DataFrame, path: str | PathLike, provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Check `frame`, then write it whole or not at all, with `provenance` in the file's metadata."""
        arrow = self.check(frame)
        metadata = {"aftershock": json.dumps({"table": self.name, **(provenance or {})}, sort_keys=True)}
        with whole_file(path) as part:
            pq.write_table(
                arrow.replace_schema_metadata(metadata), part, compression="zstd", write_page_checksum=True
            )

    def read(self, *paths: str | PathLike, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of all `paths`; raise ValueError naming a file that is not of this table.

        With `columns`, only these are kept: observations carry lists that most readers do not need.
        """
        frames = [self.read_arrow(path, columns).to_pandas() for path in paths]
        if not frames:
            return self.empty()[list(columns or self.columns)]
        return pd.concat(frames, ignore_index=True)

    def read_arrow(self, path: str | PathLike, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one file as an Arrow table, which takes a fraction of the memory; errors as `read`."""
        try:
            names = pq.read_schema(path).names
            arrow = pq.read_table(
                path, columns=list(columns) if columns else None, page_checksum_verification=True
            )
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as table {self.name}: {error}; delete it and run again"
            ) from error
        if names != list(self.columns):
            raise ValueError(f"{path} is not a table {self.name}: its columns are {names}")
        return arrow

    def empty(self) -> pd.DataFrame:
        """A frame with these columns and no row."""
        return self.schema.empty_table().to_pandas()


def provenance_of(path: str | PathLike) -> dict[str, Any]:
    """What was written beside the rows of a parquet file about how it was made."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(b"aftershock", b"{}"))


def rows_of(path: str | PathLike) -> int:
    """How many rows a parquet file has."""
    return pq.read_metadata(path).num_rows


# --- kg: what the graph says -------------------------------------------------------------------------------
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
        "status": "string",  # keep, drop (both from rules.tsv) or review
        "reason": "string?",
    },
)

COMBINATIONS = Table(
    "combinations",
    ("rule", "x_id", "y_id", "z_id"),
    {"rule": "string", "x_id": "string", "y_id": "string", "z_id": "string"},  # binary rules: z is x
)

OBJECTS = Table("objects", FACT_KEY, dict.fromkeys(FACT_KEY, "string"))

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
        "rank": "int64?",  # 1 differs most from what was there; null is not chosen
        "ranking_model": "string?",
        "logprob": "float64?",
        "facts": "int64?",
    },
)

# --- models: what a model knows ----------------------------------------------------------------------------
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
"""What a model was found to say about facts, before anything is decided."""

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
"""What a model was found to say about several true objects, before anything is decided."""

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
        "width": "int64",  # dimensions of what enters the layer's MLP output projection
        "tokens": "int64",
        "documents": "int64",
        "smallest": "float64",  # eigenvalue of the second moments
        "largest": "float64",
        "condition": "float64",  # their ratio; infinite where the smallest is not positive
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
        "low": "float64?",  # 95 % interval over facts, by cluster; null for editors and if nothing varies
        "high": "float64?",
        "n": "int64",  # facts, or dev cases
    },
)
"""Where a model keeps its facts: what restoring a layer gives back, and how well each layer is edited."""

# --- cases -------------------------------------------------------------------------------------------------
CASES = Table(
    "cases",
    ("case_id",),
    {
        "case_id": "int64",  # position in the dataset: test cases first, then dev, then train
        "split": "string",
        "rule": "string",  # P22>P40, P25&P26>P22 or 1-N@P69
        "strict": "bool",  # old and new cannot both hold
        "functionality": "float64",  # of the relation that makes it so
        "cluster": "int64",  # connected component of the entities of edits and tied fact
        "tied_known": "bool?",  # the unedited model knows the tied fact; null where there is none
        "n_objects": "int64",  # true objects of a round case, else 0
        "n_known": "int64",  # those that the unedited model knows
    },
)

EDITS = Table(
    "edits",
    ("case_id", "edit", "position"),
    {
        "case_id": "int64",
        "edit": "string",  # e1, e2; in place of e2 control, multi (all true objects), related
        "position": "int64",
        "subject_id": "string",
        "subject": "string",
        "relation_id": "string",
        "prompt": "string",
        "target_new_id": "string",
        "target_new": "string",
        "target_true_id": "string",
        "target_true": "string",
    },
)

PROBES = Table(
    "probes",
    ("case_id", "role", "position"),
    {
        "case_id": "int64",
        "role": "string",  # see cases/probes.py
        "position": "int64",
        "probe_id": "int64",  # equal for equal facts of one case, asked alike: each is scored once
        "subject_id": "string",
        "subject": "string",
        "relation_id": "string",
        "object_id": "string",
        "object": "string",
        "prompts": "string",  # all; edit: only the edit prompt; context: that one, after other facts
    },
)

RELEASED_FILES = Table(
    "released_files",
    ("file",),
    {
        "file": "string",
        "rows": "int64",  # cases, or relations of a prompt file
        "sha256": "string",
        "style": "string?",  # JSON: how the file is laid out; null where that is not kept
    },
)
"""The files of a folder in the published format."""

RELEASED_ROWS = Table(
    "released_rows",
    ("row",),
    {
        "row": "int64",
        "type": "string?",
        "rule": "string?",
        "prerequisites": "string?",  # JSON
        "layout": "string",  # JSON: the keys in their order, null in place of each value
        "extra": "string?",  # JSON: [path, value] of every key that the format does not have
    },
)

STATEMENTS = Table(
    "statements",
    ("row", "part", "position"),
    {
        "row": "int64",
        "part": "string",  # triples, edits; of round cases edit, true_objects
        "position": "int64",
        "relation_id": "string",
        "relation": "string?",
        "prompt": "string",
        "query": "string?",
        "subject_id": "string",
        "subject": "string",
        "object_id": "string",
        "object": "string",
        "new_object_id": "string?",
        "new_object": "string?",
        "true_object_id": "string?",
        "true_object": "string?",
    },
)
"""The triples, edits and true objects of a published file's rows."""

# --- observations and what follows from them ---------------------------------------------------------------
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
        "continuation": "string?",  # what greedy decoding says after the prompt, where asked for
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
        "val_total": "float64",  # what the lowest of decides which state is kept
        "success": "float64",  # share of dev targets that are said
        "locality": "float64?",  # share of dev texts still said of those that were; null when none was
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
        "continuation": "string?",  # what the model goes on to say after the edit prompt, where recorded
        "generated": "bool?",  # it begins with the object
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
"""What cases differ in, see `metrics/facets.py`; a case of which a facet is not known has no row."""

HOLES = Table(
    "holes",
    ("case_id", "state"),
    {
        "case_id": "int64",
        "state": "string",
        "shard": "string",  # its range, or unedited
        "reason": "string",
        "failed": "bool",  # the edit failed; otherwise something is wrong with what was observed
    },
)
"""Every state of a case that could not be scored, and why."""

SUMMARY = Table(
    "summary",
    ("model", "dataset", "editor", "seed", "subset", "metric"),
    {
        "model": "string",
        "dataset": "string",
        "editor": "string",
        "seed": "int64",
        "subset": "string",  # all or strict
        "metric": "string",
        "value": "float64?",
        "low": "float64?",
        "high": "float64?",
        "n": "int64",  # cases with a value
        "clusters": "int64",  # among them
        "n_effective": "float64",  # independent cases that would give as wide an interval
        "kish": "float64",  # the same if the cases of a cluster were copies of one another
        "empty": "int64",  # cases without a value
        "interval": "string?",  # how it was made: wilson, bca, t, range; null without a value
    },
)

FIGURES = {"value": "float64?", "low": "float64?", "high": "float64?", "n": "int64", "clusters": "int64"}

CONTROLS = Table(
    "controls",
    ("model", "editor", "seed", "subset", "dataset", "metric", "control"),
    {
        **dict.fromkeys(("model", "editor", "subset", "dataset"), "string"),
        "seed": "int64",
        **dict.fromkeys(("metric", "control", "compared_with"), "string"),
        **FIGURES,
        **{f"control_{name}": kind for name, kind in FIGURES.items()},
        **{f"difference_{name}": kind for name, kind in FIGURES.items()},
    },
)
"""A metric, the same under a condition without the conflict, and their paired difference."""

RECALL_SUMMARY = Table(
    "recall_summary",
    ("model", "relation", "group"),
    {**dict.fromkeys(("model", "relation", "group"), "string"), **FIGURES, "n_effective": "float64"},
)

BREAKDOWNS = Table(
    "breakdowns",
    ("model", "dataset", "editor", "seed", "facet", "level", "metric"),
    {
        **dict.fromkeys(("model", "dataset", "editor"), "string"),
        "seed": "int64",
        **dict.fromkeys(("facet", "level", "metric"), "string"),
        **FIGURES,
        **{"n_effective": "float64", "kish": "float64", "empty": "int64", "interval": "string?"},
    },
)
"""SUMMARY over the cases of one level of a facet."""

COMPARISONS = Table(
    "comparisons",
    ("model", "subset", "family", "dataset", "metric", "editor", "other"),
    {
        **dict.fromkeys(("model", "subset"), "string"),
        "family": "string",  # the table that it belongs to: its comparisons are corrected together
        **dict.fromkeys(("dataset", "metric", "editor", "other"), "string"),
        "seeds": "int64",  # over which values were averaged first
        "n": "int64",  # cases in which both have a value
        "clusters": "int64",
        "n_effective": "float64",
        "value": "float64?",  # the editor's mean over these cases
        "other_value": "float64?",
        **dict.fromkeys(("difference", "low", "high"), "float64?"),  # editor minus other, by case
        "p": "float64?",  # two-sided, of flipping the signs of whole clusters
        "exact": "bool",  # all flips were counted
        "p_adjusted": "float64?",  # for the comparisons of the family
        "significant": "bool",
        "dz": "float64?",  # Cohen's d_z: mean over standard deviation of the cases' differences
        "rank_biserial": "float64?",  # of matched pairs
        **dict.fromkeys(("wins", "losses", "ties"), "int64"),  # cases where the editor's value is higher
        "detectable": "float64?",  # smallest difference that one such test would have found
        "detectable_family": "float64?",  # likewise after Bonferroni's correction for the family
        "note": "string?",  # why something is empty
    },
)
"""Two editors on the same cases."""

SEEDS = Table(
    "seeds",
    ("model", "dataset", "editor", "subset", "metric"),
    {
        **dict.fromkeys(("model", "dataset", "editor", "subset", "metric"), "string"),
        "seeds": "int64",
        "n": "int64",  # cases with a value for every seed
        "empty": "int64",
        "clusters": "int64",
        **dict.fromkeys(("value", "low", "high"), "float64?"),  # mean over seeds and cases; as cases vary
        **dict.fromkeys(("low_with_seeds", "high_with_seeds"), "float64?"),  # as cases and seeds vary
        **dict.fromkeys(("sd_seeds", "sd_cases", "sd_rest"), "float64?"),  # components of variance
        "note": "string?",
    },
)
"""A metric over several seeds of an editor, and how much of its spread they make up."""

STABILITY = Table(
    "stability",
    ("model", "dataset", "metric", "scoring", "prompts", "pairs"),
    {
        **dict.fromkeys(("model", "dataset", "metric"), "string"),
        "scoring": "string",
        "prompts": "string",
        "pairs": "string",  # all, or equal_tokens: cases whose compared objects have equally many tokens
        **dict.fromkeys(("methods", "n", "clusters"), "int64"),
        "tau": "float64?",  # Kendall's tau-b with the order under the base variant
        "tau_resampled": "float64?",  # mean of that between this order and those of resampled clusters
        "order": "string",  # best first, as in: rome > memit = ft
        "best": "string?",
        "base_best": "string?",
        "same_best": "bool?",
        "note": "string?",
    },
)
"""Whether the order of editors hangs on how tokens and prompts become one probability."""

REPORTED = Table(
    "reported",
    ("model", "editor", "seed", "dataset", "metric"),
    {
        **dict.fromkeys(("model", "editor"), "string"),
        "seed": "int64",
        **dict.fromkeys(("dataset", "metric"), "string"),
        "reported": "float64",  # a fraction or nats, as SUMMARY
        "reported_n": "int64",  # comparisons behind it
        "value": "float64?",
        "low": "float64?",
        "high": "float64?",
        "n": "int64",
        "difference": "float64?",  # value - reported
        "difference_low": "float64?",  # of rates only: a mean comes without its spread
        "difference_high": "float64?",
        **dict.fromkeys(("reported_model", "reported_method", "source"), "string"),
        "flag": "string?",  # why the reported figure cannot be right
    },
)
"""A reported figure beside that of the same method, model and file, as the released code computes it."""

REPORTED_NOTES = Table(
    "reported_notes",
    ("model", "dataset", "editor", "about"),
    dict.fromkeys(("model", "dataset", "editor", "about", "reported", "here"), "string"),
)
"""Why reported figures do not stand beside a run's (about = no comparison), or what differs where they do."""

CLAIMS = Table(
    "claims",
    ("model", "claim", "part"),
    {
        "model": "string",
        "claim": "string",
        "part": "string",  # what is compared, or "all parts together"
        "statement": "string",
        "verdict": "string",  # supported, not supported, not testable with this run
        "evidence": "string",
        **dict.fromkeys(("value", "low", "high"), "float64?"),
        "n": "int64",
        "source": "string",
    },
)
"""What the paper claims, and what this run says about it."""
