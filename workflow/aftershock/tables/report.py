"""Tables of a study's results, over all its runs."""

from aftershock.tables import Table

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

HEALTH_SIZES = ("norm", "relative", "touched", "rank", "condition")
"""Columns of HEALTH about a change, of which a case's worst module counts."""

HEALTH_SUMMARY = Table(
    "health",
    ("model", "dataset", "editor", "seed", "state"),
    {
        **dict.fromkeys(("model", "dataset", "editor"), "string"),
        "seed": "int64",
        "state": "string",
        "cases": "int64",  # whose edits all worked
        **{f"{name}_{which}": "float64?" for name in HEALTH_SIZES for which in ("median", "worst")},
        "measured": "int64",  # cases with a perplexity
        "unedited": "float64?",  # perplexity of the unedited model
        "perplexity_median": "float64?",  # relative to it
        "perplexity_worst": "float64?",
        "collapsed": "int64",  # measured cases beyond the threshold of perplexity
        "disabling": "int64",  # cases with a change beyond the threshold of norms
        "collapse_threshold": "float64",
        "disabling_threshold": "float64",
    },
)
"""Sizes of edits and the perplexity after them; see metrics/health.py."""

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
"""Stability of the editors' order under other ways to combine tokens and prompts."""

RANKS = Table(
    "ranks",
    ("model", "question", "place", "editor"),
    {
        "model": "string",
        "question": "string",  # see metrics/ranking/questions.py
        "place": "string",  # datasets, or the plan of a sequence
        "metrics": "string",  # of whose means the value is the mean
        "better": "string",  # up or down
        "editor": "string",
        "value": "float64?",  # over what all ranked methods have in common; of cost the logarithm of seconds
        "rank": "int64?",  # 1 is the best, equal values have equal ranks; null for a method that has none
        "rank_low": "int64?",  # one more than the methods that are better beyond chance
        "rank_high": "int64?",  # the methods but those that are worse beyond chance
        "may_be_best": "bool",  # no other method is better beyond chance
        "winner": "bool",  # it is better than every other method beyond chance
        "other": "string?",  # the first method; for the first one the second
        "difference": "float64?",  # the value minus the other's
        "difference_low": "float64?",  # all intervals of a question hold together
        "difference_high": "float64?",
        "detectable": "float64?",  # smallest difference from the other that would have been beyond chance
        "power": "float64",  # with this probability
        "n": "int64",  # cases, edits, items or jobs that all ranked methods have
        "clusters": "int64",
        "written": "float64?",  # the share of edits that the method writes
        "note": "string?",  # why it is not ranked, or what it rests on
    },
)
"""The methods of a run in order, question by question."""

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
"""Reasons why reported figures have no counterpart in a run (about = no comparison), or differences."""

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
"""Claims of the paper, and their verdicts in this run."""
