"""Datasheet of a built dataset, in Markdown: source, choices, counts and dropped candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from aftershock.datasets.build import round_selection
from aftershock.datasets.overlap import crossing, divided, seen_elsewhere
from aftershock.datasets.round_edit import choose
from aftershock.datasets.shortfall import shortfalls
from aftershock.datasets.split import splits_of
from aftershock.datasets.table import CONFLICT, find_dataset
from aftershock.kg.datasheet import bullets, fenced, markdown
from aftershock.kg.filters import LIVING
from aftershock.kg.screen import OFFENSIVE, REVIEWED, TOXIC
from aftershock.matching import normal

CARE = (
    "Edits are deliberately false statements, in real graphs often about real people. Say so wherever you "
    "pass them on."
)
SELECTION = (
    "The similarity of a true object is the mean cosine between its label and those of the other true "
    "objects of its subject and relation; {encoder}. Keys with at least {known} objects known to the model "
    "take part. Of a key's known objects, the {end} similar one is edited, provided that its similarity is "
    "{side} the median over the known objects of the relation in its split: the threshold below. The false "
    "object is drawn from the relation's other objects and is the same for the easy and the hard case of a "
    "key. {counts}"
)
OWN_LABELS = (
    "a label is the mean of the model's input embeddings of its tokens, "
    "less the mean over the relation's labels"
)
COUNTS = {
    "matched": "Easy and hard cases are matched by the number of true objects as far as both have them.",
    "paper": "Numbers of true objects are spread as in the released files, alike in easy and hard.",
}
WEIGHTS = "Numbers of true objects are spread by the weights above, alike in easy and hard."
CONTROL_ROLES = (
    "control_same",
    "control_unrelated",
    "neighbour",
    "same_subject",
    "locality_text",
    "control_object",
)
SCREENED = (OFFENSIVE, TOXIC, REVIEWED, LIVING)
INFERENCE = (
    "What the second edit entails for the first one's relation (`new_imp`) is stated by the edit itself, "
    "deduced by a rule of the graph, or abduced: it follows only from the converse of the case's rule."
)
KEY = ["subject_id", "relation_id"]


@dataclass(frozen=True)
class Built:
    """The tables of a dataset and of what it was built from."""

    dataset: str
    cases: pd.DataFrame
    edits: pd.DataFrame
    probes: pd.DataFrame
    counts: pd.DataFrame  # {dataset}.counts.csv
    split: pd.DataFrame  # SPLIT
    instances: pd.DataFrame
    scores: pd.DataFrame  # OBJECT_SCORES
    known: pd.DataFrame  # verified.csv of conflict datasets, objects.csv of round ones
    facts: pd.DataFrame  # FACTS, kept and not
    screened: pd.DataFrame  # screened.tsv
    provenance: Mapping[str, Any]


def describe_dataset(built: Built, model: str, built_at: str, settings: Mapping[str, Any], graph: str) -> str:
    """The page about a dataset, with `graph`, the page about its graph, below."""
    parts = [
        f"# {built.dataset}, built for {model}",
        find_dataset(built.dataset).description,
        CARE,
        bullets(
            [
                f"built: {built_at}",
                f"hash of code: `{built.provenance['code']}`",
                f"hash of settings: `{built.provenance['config']}`",
                f"seed of targets, splits and choices: {settings['seed']}",
                _no_ops(built.edits),
            ]
        ),
        fenced(yaml.safe_dump(dict(settings), sort_keys=True)),
        f"![figure]({built.dataset}.svg)",
        "## Cases",
        _cases(built.cases),
        _controls(built),
        "## Candidates",
        *_candidates(built, settings),
        "## Train, dev and test",
        *_division(built),
        "## What the model knew",
        _known(built, settings),
        "## Screened labels",
        _screened(built),
    ]
    if built.dataset not in CONFLICT:
        parts += ["## Which object is edited", *_round(built, settings)]
    return "\n\n".join([*parts, "#" + graph.replace("\n#", "\n##")])


def _no_ops(edits: pd.DataFrame) -> str:
    """Number of first or second edits whose new object equals the old one, by id or by label."""
    written = edits[edits["edit"].isin(["e1", "e2"])]
    same = (written["target_new_id"] == written["target_true_id"]) | (
        written["target_new"].map(normal) == written["target_true"].map(normal)
    )
    return f"edits that change nothing: {int(same.sum())} of {len(written)}"


def _cases(cases: pd.DataFrame) -> str:
    columns = ["split", "rule", "cases", "strict", "functionality", "new_imp is", "clusters"]
    rows = [
        (
            split,
            rule,
            len(group),
            int(group["strict"].sum()),
            group["functionality"].min(),
            group["implied"].iloc[0],
            group["cluster"].nunique(),
        )
        for (split, rule), group in cases.groupby(["split", "rule"], sort=True)
    ]
    note = (
        "Strict: old and new cannot both hold. Functionality: subjects divided by facts, of the relation "
        "that has to be unique for that, the least where a rule's cases differ. Clusters: connected "
        "components of the entities that facts tie together."
    )
    if cases["implied"].notna().any():
        note = f"{note} {INFERENCE}"
    return f"{len(cases)} cases. {note}\n\n{markdown(columns, rows)}"


def _controls(built: Built) -> str:
    """Number of cases that have each control, and how well it matches."""
    rows = []
    if built.dataset in CONFLICT:
        e2, control = (
            built.edits[built.edits["edit"] == name].set_index("case_id")["relation_id"]
            for name in ("e2", "control")
        )
        rows.append(("second edit of another case", len(control), len(built.cases)))
        same = int((control == e2.reindex(control.index)).sum())
        rows.append(("second edit of another case, of the same relation", same, len(built.cases)))
    for role in CONTROL_ROLES:
        found = built.probes.loc[built.probes["role"] == role, "case_id"].nunique()
        if found:
            rows.append((f"probe `{role}`", found, len(built.cases)))
    return "Controls:\n\n" + markdown(["control", "cases with it", "of"], rows)


def _candidates(built: Built, settings: Mapping[str, Any]) -> list[str]:
    """Numbers of kept and dropped candidates, with a line for each split that has too few."""
    totals = built.counts.groupby(["split", "reason"], sort=False)["candidates"].sum().reset_index()
    rules = built.counts[built.counts["rule"] != ""].pivot_table(
        index="rule", columns="reason", values="candidates", aggfunc="sum", fill_value=0
    )
    named = ["kept", *(reason for reason in sorted(rules.columns) if reason != "kept")]
    rules = rules.reindex(columns=named, fill_value=0)
    rows = [(rule, *(int(rules.at[rule, n]) for n in named)) for rule in rules.index] if len(rules) else []
    short = list(shortfalls(built.dataset, built.counts, settings["quotas"]))
    return [
        "Kept, or dropped with the reason:",
        markdown(list(totals.columns), totals.itertuples(index=False, name=None)),
        "By rule, in all splits:",
        markdown(["rule", *named], rows),
        *([bullets(short)] if short else []),
    ]


def _division(built: Built) -> list[str]:
    """Division of entities into splits, and the overlap that remains between them."""
    lost, kept = crossing(built.instances, built.split)
    header = ["what", "distinct in test cases", "of another split", "of none: seen in all splits"]
    return [
        "One split of the graph's entities serves all datasets, the tuning of settings (dev) and MEND's "
        "training (train). It follows connected components over the subjects of rule instances; an entity "
        "that no edit can be about belongs to every split.",
        markdown(
            ["split", "assigned", "entities", "components", "instances"],
            divided(built.instances, built.split),
        ),
        f"Instances lost because a component had to be cut: {lost} of {kept}.",
        "What test cases have in common with other splits:",
        markdown(header, seen_elsewhere(built.cases, built.edits, built.probes, splits_of(built.split))),
    ]


def _known(built: Built, settings: Mapping[str, Any]) -> str:
    """Numbers of queried and known facts by each criterion, or of known objects within all limits."""
    if built.dataset in CONFLICT:
        note = (
            "Facts by relation; by rule, instances of which the model knows all that a case needs. Each "
            f"criterion is counted; `known` is by {settings['verification']['criterion']}."
        )
    else:
        note = (
            "A key is a subject and relation, usable when the model knows at least "
            f"{settings['min_known_objects']} of its objects."
        )
    rows = built.known.itertuples(index=False, name=None)
    return f"{note}\n\n{markdown(list(built.known.columns), rows)}"


def _screened(built: Built) -> str:
    """Facts left out by the screen, and the number of labels that await a review."""
    reasons = built.facts["reason"].value_counts()
    rows = [(reason, int(reasons.get(reason, 0))) for reason in SCREENED]
    return (
        f"Labels left out until somebody judges them (listed in screened.tsv): {len(built.screened)}. Facts "
        f"left out because of a label or a person:\n\n{markdown(['reason', 'facts'], rows)}"
    )


def _round(built: Built, settings: Mapping[str, Any]) -> list[str]:
    """The rule that chooses between easy and hard, its thresholds, and the resulting similarities."""
    easy, counts = built.dataset == "round_easy", settings["object_counts"]
    encoder = settings.get("label_encoder", "model")
    rule = SELECTION.format(
        known=settings["min_known_objects"],
        end="most" if easy else "least",
        side="at or above" if easy else "below",
        encoder=OWN_LABELS if encoder == "model" else f"labels are encoded by {_origin(encoder)}",
        counts=COUNTS[counts] if isinstance(counts, str) else WEIGHTS,
    )
    return [rule, _thresholds(built, settings["min_known_objects"]), _sizes(built.cases)]


def _origin(encoder: Mapping[str, str]) -> str:
    """A sentence encoder's name, and its revision where it comes from the Hub."""
    if "path" in encoder:
        return f"`{encoder['path']}`"
    return f"{encoder['hub']} (revision `{encoder['revision']}`)"


def scores_in(built: Built, split: str) -> pd.DataFrame:
    """The OBJECT_SCORES rows of one split."""
    return built.scores[built.scores["subject_id"].map(splits_of(built.split)).eq(split)]


def _thresholds(built: Built, min_known: int) -> str:
    """Per split and relation the threshold, and the similarities of the edited objects."""
    rows = []
    for split, cases in edited_objects(built).groupby("split", sort=True):
        limits = thresholds(scores_in(built, split), min_known)
        for relation_id, group in cases.groupby("relation_id", sort=True):
            quartiles = group["similarity"].quantile([0, 0.25, 0.5, 0.75, 1])
            rows.append((split, relation_id, float(limits[relation_id]), len(group), *map(float, quartiles)))
    header = ["split", "relation", "threshold", "cases", "least", "25 %", "median", "75 %", "most"]
    return "Similarity of the edited objects:\n\n" + markdown(header, rows)


def edited_objects(built: Built) -> pd.DataFrame:
    """The OBJECT_SCORES row of each case's edited object, with its split."""
    first = built.edits[built.edits["edit"] == "e1"].merge(built.cases[["case_id", "split"]], on="case_id")
    chosen = first.rename(columns={"target_true_id": "object_id"})[["split", *KEY, "object_id"]]
    return chosen.merge(built.scores, on=[*KEY, "object_id"])


def easy_and_hard(built: Built, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The edited objects of both round datasets' test cases, with their key's size as `n_objects`."""
    scores = scores_in(built, "test")
    sizes = scores.groupby(KEY).size().rename("n_objects").reset_index()
    selection = round_selection(settings, settings["seed"])
    found = choose(scores, settings["quotas"]["test"], selection)
    return {name: chosen.rows.merge(sizes, on=KEY) for name, chosen in found.items()}


def thresholds(scores: pd.DataFrame, min_known: int) -> pd.Series:
    """The similarity by relation from which an object of OBJECT_SCORES counts as easy."""
    known = scores[scores["known"]]
    several = known.groupby(KEY)["object_id"].transform("size") >= min_known
    return known[several & known["similarity"].notna()].groupby("relation_id")["similarity"].median()


def _sizes(cases: pd.DataFrame) -> str:
    sizes = cases.groupby(["split", "n_objects"]).size()
    rows = [(split, n, number) for (split, n), number in sizes.items()]
    return "True objects of a case:\n\n" + markdown(["split", "objects", "cases"], rows)
