"""The questions that methods are ranked by."""

from dataclasses import dataclass

from aftershock.metrics.catalogue import metric

DATASET_METRIC = tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A question that methods are ranked by.

    `measures` are alternatives, each some metrics of datasets whose mean answers the question; the first one
    of which a run has any counts. A question without them is answered by sequences of edits or by clocks.
    `word` heads a column, `about` says what is measured, `missing` why a run may have no answer; `unit` is
    percent, nats or seconds.
    """

    name: str
    word: str
    title: str
    about: str
    missing: str
    better: str = "up"
    unit: str = "percent"
    measures: tuple[tuple[DATASET_METRIC, ...], ...] = ()


def _wherever(coverage: str, elsewhere: str) -> tuple[tuple[DATASET_METRIC, ...], ...]:
    """Return a metric of single edits, or where a run has none that of the first edits of other datasets."""
    others = ("reverse", "composite", "round_easy", "round_hard")
    return ((("coverage", coverage),), *(((dataset, elsewhere),) for dataset in others))


WRITE, COST = "write", "cost"
HOLD, ABILITIES = "many_edits", "abilities"
QUESTIONS = (
    Question(
        WRITE,
        "write",
        "Which method writes the fact?",
        "the share of edits after which the new object is the greedy answer",
        "it has no edit whose greedy answer was recorded",
        measures=_wherever("single_exact", "e1_exact"),
    ),
    Question(
        "generalise",
        "generalise",
        "Which carries it over to other wordings?",
        "the share of held-out paraphrases after which the new object is the greedy answer",
        "it has no paraphrases of its edits",
        measures=_wherever("single_held_out", "e1_held_out"),
    ),
    Question(
        "keep",
        "keep",
        "Which leaves other facts alone?",
        "the share of facts that the unedited model knows and the edited one still gives: of other subjects "
        "with the edited relation, of the edited subject, and of texts of a file, each counted alike",
        "it has no single edits with facts beside them (the dataset coverage)",
        measures=(
            (
                ("coverage", "single_neighbours_kept"),
                ("coverage", "single_same_subject_kept"),
                ("coverage", "single_texts_kept"),
            ),
        ),
    ),
    Question(
        "undo",
        "undo",
        "Which can be undone?",
        "the distortion of the distribution over true objects that an edit and its reversal leave "
        "(100 × nats)",
        "it edits nothing in and out again (the datasets round_easy and round_hard)",
        better="down",
        unit="nats",
        measures=((("round_easy", "distortion"), ("round_hard", "distortion")),),
    ),
    Question(
        HOLD,
        "many edits",
        "Which holds many edits?",
        "the share of all edits of a sequence whose new object is the greedy answer after the last of them",
        "it makes no sequence of edits",
    ),
    Question(
        ABILITIES,
        "abilities",
        "Which keeps other abilities through many edits?",
        "the share of what the unedited model can do above accident that is left after the last edit, "
        "mean over the tasks whose score is a mean over items",
        "it makes no sequence of edits with tasks that the unedited model does better than by accident",
    ),
    Question(
        COST,
        "cost",
        "Which is cheapest?",
        "the seconds that a case takes, edits and the scoring of its probes together (geometric mean)",
        "no time of its jobs is on record",
        better="down",
        unit="seconds",
    ),
)
BY_NAME = {question.name: question for question in QUESTIONS}


def span(name: str) -> float:
    """Return how far two usual values of a metric can lie apart."""
    scale = metric(name).scale
    return float(scale.high - scale.low)
