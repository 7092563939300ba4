"""Every metric once more: one case at a time, plain loops over dictionaries, nothing shared with the package.

A value that cannot be given is None. `metrics_of` has the twin of every metric in the catalogue.
"""

import math

from slow_cases import (
    PARAPHRASES,
    at_least,
    average,
    conditional,
    drop,
    half,
    less,
    log_drop,
    more,
    same,
    states_of,
    with_control,
    written,
)

MARGIN = 0.1


# --- conflict ----------------------------------------------------------------------------------------------
def conflict_headlines(case, dataset, scoring="geometric_mean", prompts="all"):
    def p(role, state):
        return case.p(role, state, 0, scoring, prompts)

    replaced = "e2_true" if "e2_true" in case.probes else "old"
    model = "e2_only" if dataset == "coverage" else "2"
    found = {
        "success": more(p("new_exp", "2"), p("new_exp", "0")),
        "success_released": more(p("new_exp", model), p(replaced, model)),
        "conflict_score_exp": more(p("new_exp", "2"), p("old", "2")),
        "conflict_score_imp": more(p("new_imp", "2"), p("old", "2")),
        "conflict_magnitude": drop(p("old", "1"), p("old", "2")),
        "conflict_magnitude_released": at_least(drop(p("old", "1"), p("old", "2"))),
    }
    if dataset == "composite":
        found["tied_fact_damage"] = drop(p("tied", "1"), p("tied", "2"))
        found["tied_fact_damage_released"] = drop(p("tied", "0"), p("tied", "2"))
    if dataset == "coverage":
        found["single_success"] = more(p("new_exp", "e2_only"), p("new_exp", "0"))
    return found


def conflict(case, dataset):
    p = case.p
    found = conflict_headlines(case, dataset)
    replaced = "e2_true" if "e2_true" in case.probes else "old"
    model = "e2_only" if dataset == "coverage" else "2"
    found |= {
        "success_tie": same(p("new_exp", "2"), p("new_exp", "0")),
        "success_released_tie": same(p("new_exp", model), p(replaced, model)),
        "success_released_before": more(p("new_exp", "0"), p(replaced, "0")),
        "e1_failed": less(1.0, more(p("old", "1"), p("old", "0"))),
        "known": case.exact("e1_true", "0"),
        **with_control(
            "conflict_magnitude", drop(p("old", "1"), p("old", "2")), drop(p("old", "1"), p("old", "control"))
        ),
        **with_control(
            "conflict_magnitude_log_ratio",
            log_drop(p("old", "1"), p("old", "2")),
            log_drop(p("old", "1"), p("old", "control")),
        ),
        **written("e1", case, "old", ["e1_true"], "1"),
        **written("e2", case, "new_exp", ["e2_true", "old"], "2"),
        **states_of("old", case, "old"),
        **states_of("new_exp", case, "new_exp"),
        **states_of("new_imp", case, "new_imp"),
    }
    for kind in ("exp", "imp"):
        name, new = f"conflict_score_{kind}", f"new_{kind}"
        found |= {
            f"{name}_before": more(p(new, "0"), p("old", "0")),
            f"{name}_after_first": more(p(new, "1"), p("old", "1")),
            f"{name}_change": less(found[name], more(p(new, "0"), p("old", "0"))),
            f"{name}_control": more(p(new, "control"), p("old", "control")),
            f"{name}_control_difference": less(found[name], more(p(new, "control"), p("old", "control"))),
            f"{name}_tie": same(p(new, "2"), p("old", "2")),
        }
    if dataset == "coverage":
        found |= single(case)
    if dataset == "composite":
        found |= tied(case, found)
    names = ["success", "success_released", "conflict_score_exp", "conflict_score_imp", "conflict_magnitude"]
    names += ["conflict_magnitude_released", "conflict_magnitude_log_ratio", "tied_fact_damage"]
    return found | conditional(found, [*names, "tied_fact_damage_released", "tied_fact_damage_log_ratio"])


def single(case):
    found = written("single", case, "new_exp", ["e1_true"], "e2_only")
    found["single_success_tie"] = same(case.p("new_exp", "e2_only"), case.p("new_exp", "0"))
    truth, said = case.seen("e1_true", "0"), case.seen("new_exp", "e2_only")
    answered = [n for n in PARAPHRASES if n in truth and truth[n]["argmax_match"]]
    found["single_paraphrase_answered"] = average(
        [float(said[n]["argmax_match"]) for n in answered if n in said]
    )
    found["single_paraphrases_known"] = case.mean("e1_true", "0", lambda r: r["argmax_match"], PARAPHRASES)
    near = [("neighbours", "neighbour"), ("same_subject", "same_subject"), ("texts", "locality_text")]
    for name, role in near:
        places = case.positions(role)
        if role == "locality_text" and not places:
            continue
        known = [i for i in places if case.exact(role, "0", i) == 1]
        found[f"single_{name}_kept"] = average([case.exact(role, "e2_only", i) for i in known])
        for ending, state in (("", "e2_only"), ("_before", "0")):
            found[f"single_{name}_token_accuracy{ending}"] = average(
                [
                    case.mean(role, state, lambda r: r["tokens_matched"] / r["n_tokens"], [0], i)
                    for i in places
                ]
            )
        found[f"single_{name}_log_ratio"] = average(
            [log_drop(case.p(role, "e2_only", i), case.p(role, "0", i)) for i in places]
        )
    for ending, state in (("", "e2_only"), ("_before", "0")):
        found[f"single_neighbours_efficacy{ending}"] = average(
            [
                more(case.p("neighbour", state, i), case.p("neighbour_new", state, i))
                for i in case.positions("neighbour")
                if case.p("neighbour", "0", i) != case.p("neighbour_new", "0", i)
            ]
        )
    return found


def tied(case, found):
    p = case.p
    damage, known = found["tied_fact_damage"], case.about["tied_known"] is True
    result = {
        **with_control("tied_fact_damage", damage, drop(p("tied", "1"), p("tied", "control"))),
        **with_control(
            "tied_fact_damage_log_ratio",
            log_drop(p("tied", "1"), p("tied", "2")),
            log_drop(p("tied", "1"), p("tied", "control")),
        ),
        "tied_fact_damage_known": damage if known else None,
        "tied_fact_damage_clamped": at_least(damage),
        "tied_fact_damage_released_clamped": at_least(found["tied_fact_damage_released"]),
        "tied_fact_damage_e2_only": drop(p("tied", "0"), p("tied", "e2_only")),
        "known": float(known),
        **states_of("tied", case, "tied"),
    }
    for kind in ("same", "unrelated"):
        role, losses, differences = f"control_{kind}", [], []
        for i in case.positions(role):
            loss = drop(p(role, "1", i), p(role, "2", i))
            which = "edit" if case.probes[role][i]["prompts"] == "edit" else "all"
            own = drop(p("tied", "1", prompts=which), p("tied", "2", prompts=which))
            losses.append(loss)
            differences.append(less(own, loss))
        result[f"tied_fact_damage_{kind}"] = average(losses)
        result[f"tied_fact_damage_{kind}_difference"] = average(differences)
    return result


# --- round -------------------------------------------------------------------------------------------------
def divergence(before, after):
    """Terms of the Jensen-Shannon divergence of two lists of probabilities, or None."""
    if any(value is None for value in (*before, *after)) or not sum(before) or not sum(after):
        return None
    terms = []
    for a, b in zip(before, after, strict=True):
        a, b = a / sum(before), b / sum(after)
        middle = (a + b) / 2
        terms.append(sum(x * math.log(x / middle) for x in (a, b) if x > 0) / 2)
    return terms


def round_headlines(case, dataset, scoring="geometric_mean", prompts="all"):
    def p(role, state, position=0):
        return case.p(role, state, position, scoring, prompts)

    others = case.positions("object")
    before, after = ([p("original", s), *(p("object", s, i) for i in others)] for s in ("0", "2"))
    terms = divergence(before, after) if others else None
    lost = average([more(a, b) for a, b in zip(before[1:], after[1:], strict=True)])
    return {
        "success": half(
            more(p("target", "1"), p("target", "0")), more(p("original", "2"), p("original", "1"))
        ),
        "success_released": half(
            more(p("target", "1"), p("original", "1")), more(p("original", "2"), p("target", "2"))
        ),
        "distortion": sum(terms) if terms else None,
        "distortion_released": sum(terms) / (len(others) + 1) if terms else None,
        "ignore_rate": lost,
        "failure_rate": None if lost is None else float(lost > 0.5),
    }


def losses(case, role, positions, state):
    before = [case.p(role, "0", i) for i in positions]
    after = [case.p(role, state, i) for i in positions]
    rate = average([more(a, b) for a, b in zip(before, after, strict=True)])
    change = [log_drop(b, a) for a, b in zip(before, after, strict=True)]
    return {
        "ignore_rate": rate,
        "failure_rate": None if rate is None else float(rate > 0.5),
        "ignore_rate_margin": average([None if c is None else float(c < -MARGIN) for c in change]),
        "others_log_ratio": average(change),
    }


def distorted(case, positions, state):
    before, after = (
        [case.p("original", s), *(case.p("object", s, i) for i in positions)] for s in ("0", state)
    )
    terms = divergence(before, after) if positions else None
    return {"distortion": sum(terms) if terms else None}


def named(found, suffix):
    return {f"{name}_{suffix}": value for name, value in found.items()}


def parts_of_distortion(case, others):
    parts = dict.fromkeys(("overshoot", "undershoot", "gain", "loss"), 0.0)
    before, after = ([case.p("original", s), *(case.p("object", s, i) for i in others)] for s in ("0", "2"))
    terms = divergence(before, after) if others else None
    if terms is None:
        return dict.fromkeys(f"distortion_{name}" for name in parts)
    for i, term in enumerate(terms):
        more_than_before = after[i] / sum(after) > before[i] / sum(before)
        if i == 0:
            parts["overshoot" if more_than_before else "undershoot"] += term
        else:
            parts["gain" if more_than_before else "loss"] += term
    return {f"distortion_{name}": value for name, value in parts.items()}


def chance(n):
    """Return the probability that more than half of n fair coins fall on one side."""
    return sum(math.comb(n, k) for k in range(n + 1) if 2 * k > n) / 2**n


def rounds(case, dataset):
    p, others = case.p, case.positions("object")
    moved = same(p("target", "1"), p("target", "0")), same(p("original", "2"), p("original", "1"))
    released = same(p("target", "1"), p("original", "1")), same(p("original", "2"), p("target", "2"))
    truths = [("original", 0), *(("object", i) for i in others)]
    after = [more(p("object", "0", i), p("object", "2", i)) for i in others]
    elsewhere = case.positions("control_object")
    away = divergence(*([p("control_object", s, i) for i in elsewhere] for s in ("0", "2")))
    found = {
        **round_headlines(case, dataset),
        **losses(case, "object", others, "2"),
        **parts_of_distortion(case, others),
        "success_tie": half(*moved),
        "success_released_tie": half(*released),
        "ignore_rate_tie": average([same(p("object", "0", i), p("object", "2", i)) for i in others]),
        "ignore_count": sum(after) if others and None not in after else None,
        "ignore_rate_by_chance": 0.5 if others else None,
        "failure_rate_by_chance": chance(len(others)) if others else None,
        "e1_failed": less(1.0, more(p("target", "1"), p("target", "0"))),
        "known": min(1.0, case.about["n_known"] / case.about["n_objects"]),
        **written("e1", case, "target", ["original"], "1"),
        **written("e2", case, "original", ["target"], "2"),
        **named(losses(case, "object", others, "1") | distorted(case, others, "1"), "after_first"),
        **named(losses(case, "object", others, "random") | distorted(case, others, "random"), "random"),
        **named(losses(case, "control_object", elsewhere, "2"), "control"),
        "distortion_control": sum(away) if away else None,
        **states_of("target", case, "target"),
        **states_of("original", case, "original"),
    }
    for ending, state in (("_before", "0"), ("", "2")):
        said = [case.exact(role, state, i) for role, i in truths]
        found[f"any_exact{ending}"] = max((s for s in said if s is not None), default=None)
    for ending, state in (("_before", "0"), ("_after_first", "1"), ("", "2")):
        found[f"probability_others{ending}"] = average([p("object", state, i) for i in others])
    given = case.given or set()
    for suffix, chosen in (
        ("known", [i for i in others if case.known.get(i)]),
        ("held_out", [i for i in others if case.probes["object"][i]["object"] not in given]),
    ):
        found |= named(losses(case, "object", chosen, "2") | distorted(case, chosen, "2"), suffix)
    for name in ("distortion", "ignore_rate", "failure_rate", "ignore_rate_margin", "others_log_ratio"):
        for control in ("control", "random"):
            found[f"{name}_{control}_difference"] = less(found[name], found[f"{name}_{control}"])
    for name in ("ignore_rate", "failure_rate"):
        found[f"{name}_by_chance_difference"] = less(found[name], found[f"{name}_by_chance"])
    names = (
        "success",
        "distortion",
        "ignore_rate",
        "failure_rate",
        "success_released",
        "distortion_released",
    )
    return found | conditional(found, names)


def metrics_of(case, dataset):
    """Every metric of one case whose edits all worked and which was observed as a whole."""
    found = rounds(case, dataset) if dataset.startswith("round") else conflict(case, dataset)
    return found | {"edit_failed": 0.0, "missing": 0.0}


def variants_of(case, dataset):
    """The headline metrics by (metric, scoring, prompts)."""
    headlines = round_headlines if dataset.startswith("round") else conflict_headlines
    return {
        (name, scoring, prompts): value
        for scoring in ("geometric_mean", "joint", "first_token")
        for prompts in ("all", "edit", "paraphrases")
        for name, value in headlines(case, dataset, scoring, prompts).items()
    }
