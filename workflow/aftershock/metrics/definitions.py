"""The metrics: name, title, scale, which direction is better, and a definition in one sentence."""

from aftershock.metrics.edit_definitions import carried_over, nearby, written
from aftershock.metrics.metric import Metric
from aftershock.metrics.scales import COUNT, DIFFERENCE, DROP, NATS

BASE = (
    Metric(
        "success",
        "success",
        "The object that an edit writes is likelier than before: for conflict cases the second edit's "
        "object in the model after both edits against the unedited model, for round cases the mean over "
        "both edits, each against the model it started from.",
    ),
    Metric(
        "success_released",
        "success, as released",
        "The object that an edit writes is likelier than the one it replaces, both in the edited model: for "
        "coverage in the model with the second edit alone (the paper's Single), for round cases the mean "
        "over both edits.",
    ),
    Metric(
        "conflict_score_exp",
        "conflict score, explicit",
        "After both edits, what the second edit wrote is likelier than what the first one wrote.",
    ),
    Metric(
        "conflict_score_imp",
        "conflict score, implicit",
        "After both edits, what follows from the second edit for the first edit's relation is likelier than "
        "what the first edit wrote.",
    ),
    Metric(
        "conflict_magnitude",
        "conflict magnitude",
        "The share of the first edit's new fact, in probability, that the second edit removes; negative "
        "where it makes the fact likelier, without limit.",
        scale=DROP,
    ),
    Metric(
        "conflict_magnitude_released",
        "conflict magnitude, as released",
        "The conflict magnitude, where no case counts for less than -100 %.",
        scale=DROP,
    ),
    Metric(
        "conflict_magnitude_log_ratio",
        "conflict magnitude, log ratio",
        "ln of the first edit's new fact's probability after the first edit over that after the second.",
        scale=DIFFERENCE,
        percent=False,
    ),
    Metric(
        "tied_fact_damage",
        "tied-fact damage",
        "The share of the tied fact's probability after the first edit that is gone after the second.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_released",
        "tied-fact damage, as released",
        "The share of the tied fact's probability in the unedited model that is gone after both edits.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_e2_only",
        "tied-fact damage of the second edit alone",
        "The share of the tied fact's probability in the unedited model that is gone after the second edit "
        "alone.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_log_ratio",
        "tied-fact damage, log ratio",
        "ln of the tied fact's probability after the first edit over that after the second.",
        better="down",
        scale=DIFFERENCE,
        percent=False,
    ),
    Metric(
        "tied_fact_damage_same",
        "damage to other facts of the tied fact's subject",
        "The same loss for other facts of the same subject, which the conflict does not touch.",
        better="down",
        scale=DROP,
    ),
    Metric(
        "tied_fact_damage_unrelated",
        "damage to tied facts of unrelated cases",
        "The same loss for tied facts of cases with other entities.",
        better="down",
        scale=DROP,
    ),
    *written(),
    Metric(
        "any_exact",
        "a true object, exact",
        "After both edits, greedy decoding gives one of the true objects.",
    ),
    Metric(
        "e1_failed",
        "first edit failed",
        "The first edit did not make its object likelier.",
        better="down",
    ),
    Metric(
        "known",
        "known to the unedited model",
        "What a case is built on is known before any edit: for coverage and reverse the fact that the first "
        "edit replaces, for composite the tied fact, for round cases the share of the true objects.",
    ),
    Metric("edit_failed", "edit broke off", "An edit of the case ended without a result.", better="down"),
    Metric(
        "missing",
        "not observed",
        "Something that should have been observed of the case is missing, there twice or not a number.",
        better="down",
    ),
    Metric(
        "single_success", "single edit, success", "An edit's object is likelier than in the unedited model."
    ),
    Metric(
        "single_neighbours_kept",
        "neighbours kept",
        "Of facts of other subjects with the edited relation that the unedited model gives exactly, the "
        "share it still gives.",
    ),
    Metric(
        "single_same_subject_kept",
        "same subject's other facts kept",
        "Of facts of the edited subject with other relations that the unedited model gives exactly, the "
        "share it still gives.",
    ),
    Metric(
        "single_texts_kept",
        "other texts kept",
        "Of texts of a file that are about something else and that the unedited model completes exactly, the "
        "share it still does.",
    ),
    Metric(
        "single_neighbours_efficacy",
        "neighbours, own object likelier",
        "The share of facts of other subjects with the edited relation whose own object is likelier than the "
        "one that the edit wrote, each after its edit prompt (the neighbourhood score of Meng et al., 2022).",
    ),
    *carried_over(),
    *nearby(),
    Metric(
        "distortion",
        "distortion",
        "Jensen-Shannon divergence (natural log) of the distribution over a key's true objects after an "
        "edit and its reversal from that of the unedited model.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_released",
        "distortion, as released",
        "The distortion divided by the number of true objects.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_overshoot",
        "distortion by overshoot",
        "The part of the distortion that comes from a larger share of the object edited back.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_undershoot",
        "distortion by undershoot",
        "The part of the distortion that comes from a smaller share of the object edited back.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_loss",
        "distortion by loss",
        "The part of the distortion that comes from smaller shares of other true objects.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "distortion_gain",
        "distortion by gain",
        "The part of the distortion that comes from larger shares of other true objects.",
        better="down",
        scale=NATS,
    ),
    Metric(
        "ignore_rate",
        "ignore rate",
        "The share of the other true objects that are less likely than in the unedited model; 50 % by "
        "chance.",
        better="down",
    ),
    Metric(
        "ignore_count",
        "ignored objects",
        "How many of the other true objects are less likely than in the unedited model: the paper's Eq. 12, "
        "of which the ignore rate is the mean.",
        better="down",
        scale=COUNT,
        percent=False,
    ),
    Metric(
        "ignore_rate_by_chance",
        "ignore rate by chance",
        "The ignore rate if each object lost or gained probability with even chance.",
        better="",
    ),
    Metric(
        "failure_rate",
        "failure rate",
        "More than half of the other true objects are less likely than in the unedited model.",
        better="down",
    ),
    Metric(
        "failure_rate_by_chance",
        "failure rate by chance",
        "The failure rate if each object lost or gained probability with even chance.",
        better="",
    ),
    Metric(
        "ignore_rate_margin",
        "ignore rate, with a margin",
        "The share of the other true objects that lose more than the margin (0.1 unless set) in "
        "log-probability.",
        better="down",
    ),
    Metric(
        "others_log_ratio",
        "change of the other objects",
        "Mean over the other true objects of ln of their probability after over that before.",
        scale=DIFFERENCE,
        percent=False,
    ),
    *(
        Metric(f"probability_{name}", f"probability of {title}", f"p(k) of {title}.", better="")
        for name, title in (
            ("old", "what the first edit wrote"),
            ("new_exp", "what the second edit wrote"),
            ("new_imp", "what follows from the second edit"),
            ("tied", "the tied fact"),
            ("target", "the object edited in and out again"),
            ("original", "the object edited back"),
            ("others", "the other true objects, on average"),
        )
    ),
)
