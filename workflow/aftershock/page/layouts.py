"""The page's composed tables: the paper's, controls, recall, tuning, candidates, times."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.datasets.table import DATASETS
from aftershock.metrics.catalogue import metric
from aftershock.metrics.layouts import CONTROLLED, LAYOUTS, PAPER, control_table
from aftershock.metrics.layouts import table as laid_out
from aftershock.page.columns import Column, estimate, of_frame, plain, table
from aftershock.page.listed import files_of
from aftershock.words import TEMPLATES

ARROWS = {"up": "↑", "down": "↓", "": ""}
DEFINITIONS = {"paper": "as the paper defines them", "released": "as the released code computes them"}
ABOUT_CONTROLS = (
    "A metric minus the same under a condition that lacks the conflict, case by case; below each its "
    "interval and both sides. A loss can be blamed on a conflict only as far as it exceeds its control. By "
    "chance alone the ignore rate is 50 %. Blue: beyond control; orange: below it; grey: not told apart."
)


def paper_tables(
    summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], files: Sequence[str]
) -> list[dict[str, Any]]:
    """Single edits and the paper's tables, a row per run, subset and definition."""
    return [_paper_table(name, summary, runs, files) for name in LAYOUTS]


def _paper_table(
    name: str, summary: pd.DataFrame, runs: Sequence[Mapping[str, Any]], files: Sequence[str]
) -> dict[str, Any]:
    layout = LAYOUTS[name]
    parts = {d: laid_out(summary, runs, layout, d) for d in layout.columns}
    about = pd.concat(
        [part[["editor", "model", "seed", "subset"]].assign(definition=d) for d, part in parts.items()]
    )
    columns = [plain(about[c], c) for c in ("editor", "model", "seed", "subset", "definition")]
    columns[-1]["shown"] = [DEFINITIONS.get(word, word) for word in columns[-1]["words"]]
    for place, first in enumerate(layout.columns[PAPER]):
        both = {d: layout.columns[d][place] for d in layout.columns}
        stacked = [_renamed(parts[d], column.name) for d, column in both.items()]
        column = estimate(pd.concat(stacked), "x.value", "x.low", "x.high")
        columns.append(
            column
            | {
                "id": first.name,
                "label": f"{first.header} {ARROWS[metric(first.metric).better]}".strip(),
                "group": first.group,
                "metric": first.metric,
                "better": metric(first.metric).better,
                "about": _both({d: c.metric for d, c in both.items()}),
            }
        )
    names = [name if d == PAPER else f"{name}_{d}" for d in layout.columns]
    caption = "Means over cases, intervals below. Percentages; distortions are 100 × nats."
    made = table(name, layout.title, caption, columns, len(about), files_of(files, *names))
    return made | {"chosen": {"subset": "all", "definition": PAPER}, "datasets": _datasets(layout)}


def _datasets(layout: Any) -> list[str]:
    return list(dict.fromkeys(column.dataset for column in layout.columns[PAPER]))


def _renamed(part: pd.DataFrame, name: str) -> pd.DataFrame:
    """The figures of one column, under names that all columns share."""
    return pd.DataFrame({f"x.{f}": part[f"{name}.{f}"] for f in ("value", "low", "high", "n", "clusters")})


def _both(names: Mapping[str, str]) -> str:
    """The definition of a column, or both where the released code's differs."""
    about = {d: metric(name).about for d, name in names.items()}
    if len(set(about.values())) == 1:
        return next(iter(about.values()))
    return "  ".join(f"{d.capitalize()}: {text}" for d, text in about.items())


def controls(summary: pd.DataFrame, files: Sequence[str]) -> dict[str, Any] | None:
    """A row per dataset and comparison, with the paired difference of every editor; None without any."""
    rows = control_table(summary)
    rows = rows[rows["n"] > 0]
    # In coverage the implicit fact is the explicit one.
    rows = rows[(rows["dataset"] != "coverage") | (rows["metric"] != "conflict_score_imp")]
    if rows.empty:
        return None
    key = ["model", "dataset", "metric", "compared_with", "seed", "subset"]
    order = {(name, words): place for place, (name, _, words) in enumerate(CONTROLLED)}
    keys = rows[key].drop_duplicates()
    keys = keys.assign(
        _d=[list(DATASETS).index(d) for d in keys["dataset"]],
        _m=[order[pair] for pair in zip(keys["metric"], keys["compared_with"], strict=True)],
    ).sort_values(["model", "_d", "_m", "seed"], kind="stable")
    keys = keys[key].reset_index(drop=True)
    columns = [plain(keys[name], name) for name in key]
    for editor in dict.fromkeys(rows["editor"]):
        part = keys.merge(rows[rows["editor"] == editor], on=key, how="left")
        column = estimate(part, "difference_value", "difference_low", "difference_high", editor)
        column["sides"] = [
            list(pair) for pair in zip(_sides(part["value"]), _sides(part["control_value"]), strict=True)
        ]
        columns.append(column | {"id": editor, "by": "metric", "signed": True})
    return table(
        "controls", "Against controls", ABOUT_CONTROLS, columns, len(keys), files_of(files, "controls"),
        chosen={"subset": "all"},
    )  # fmt: skip


def _sides(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else float(f"{value:.4g}") for value in values]


def recall(rows: pd.DataFrame, files: Sequence[str]) -> dict[str, Any] | None:
    """A row per model and relation with the recall of each group of templates; None without any."""
    if rows.empty:
        return None
    keys = rows[["relation", "model"]].drop_duplicates().reset_index(drop=True)
    columns = [plain(keys[name], name) for name in keys]
    for group, words in TEMPLATES.items():
        part = keys.merge(rows[rows["group"] == group], on=["relation", "model"], how="left")
        part = part.rename(columns={f: f"x.{f}" for f in ("value", "low", "high", "n", "clusters")})
        column = estimate(part, "x.value", "x.low", "x.high", words.removeprefix("recall on "))
        columns.append(column | {"id": group, "metric": "known", "group": "templates", "counts": "cell"})
    caption = (
        "Share of facts that the unedited model gives greedily, by whether the template was part of its "
        "training text. Clusters are subjects."
    )
    return table(
        "recall", "Recall of the unedited model", caption, columns, len(keys), files_of(files, "recall")
    )


def trials(model: str, editor: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The settings that were tried for one editor, the best first."""
    rows = rows.sort_values("objective", ascending=False, kind="stable")
    given = [json.loads(text) for text in rows["settings"]]
    names = list(dict.fromkeys(name for settings in given for name in settings))
    varied = [n for n in names if len({json.dumps(settings.get(n)) for settings in given}) > 1] or names
    frame = pd.DataFrame(
        {n: [_setting(settings.get(n)) for settings in given] for n in varied}, index=rows.index
    )
    frame.insert(0, "trial", rows["trial"])
    for name in ("success", "paraphrase", "locality", "objective", "chosen"):
        frame[name] = rows[name]
    if rows["measured"].notna().any():
        frame["measured"] = [_measured(text) for text in rows["measured"]]
    about = {
        "objective": "success × paraphrase × locality, for every method alike",
        "measured": "what settings that are auto came to on this model, by layer",
    }
    return of_frame(f"trials-{model}-{editor}", frame, f"Settings tried for {editor} on {model}", about=about)


def _measured(text: Any) -> str:
    """Measured settings in words."""
    found = json.loads(text) if isinstance(text, str) else {}
    return "; ".join(
        f"{name} {', '.join(f'{value:.3g} (layer {layer})' for layer, value in values.items())}"
        for name, values in found.items()
    )


def _setting(value: Any) -> Any:
    return value if isinstance(value, int | float) else "–" if value is None else json.dumps(value)


CURVE = {
    "all": "all facts",
    "conflict": "facts of rules",
    "round": "facts with several objects",
}


def curves(made: Sequence[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    """Training curves, a row per hypernetwork, from model, kind, and the measurements kept and last."""
    frame = pd.DataFrame(
        [
            {
                "model": model,
                "trained on": CURVE[kind],
                "batches": last["step"],
                "seconds": round(last["seconds"]),
                "batches left out": last["skipped"],
                "kept at": kept["step"],
                "loss of edits": kept["val_edit"],
                "loss elsewhere": kept["val_local"],
                "targets said": kept["success"],
                "other texts kept": kept["locality"],
            }
            for model, kind, kept, last in made
        ]
    )
    caption = (
        "A hypernetwork was trained on edits of facts of the train split; the state with the lowest loss on "
        "dev edits is the one that edits. Neither split shares a subject with a test case."
    )
    return of_frame("mend_training", frame, "Training of MEND", caption)


def counts(made: Mapping[tuple[str, str], pd.DataFrame]) -> dict[str, Any] | None:
    """Candidates by dataset, reason and split, kept ones first; None without any."""
    parts = []
    for (model, dataset), rows in made.items():
        wide = rows.pivot_table(
            index="reason", columns="split", values="candidates", aggfunc="sum", fill_value=0
        )
        wide = wide.loc[sorted(wide.index, key=lambda reason: (reason != "kept", reason))].reset_index()
        parts.append(wide.assign(model=model, dataset=dataset))
    if not parts:
        return None
    frame = pd.concat(parts, ignore_index=True)
    splits = [split for split in ("test", "dev", "train") if split in frame]
    frame[splits] = frame[splits].fillna(0).astype("int64")
    caption = (
        "How many candidates became cases, and why others did not. Only test cases are reported; dev cases "
        "choose settings."
    )
    return of_frame(
        "candidates", frame[["dataset", "model", "reason", *splits]], "From candidates to cases", caption
    )


def oddities(rows: pd.DataFrame) -> dict[str, Any]:
    """Oddities found in published files, see datasets/validate.py."""
    return of_frame("oddities", rows, "Oddities in all rows of the published files")


def stages(timings: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Jobs, seconds in all, of the slowest job, and most memory in MiB, by rule, the longest first."""
    rows = pd.DataFrame(
        [{key: t[key] for key in ("rule", "seconds", "peak_bytes")} for t in timings],
        columns=["rule", "seconds", "peak_bytes"],
    )
    found = rows.groupby("rule").agg(
        jobs=("seconds", "size"),
        total=("seconds", "sum"),
        slowest=("seconds", "max"),
        memory=("peak_bytes", "max"),
    )
    found = found.sort_values("total", ascending=False).reset_index()
    return found.assign(memory=(found["memory"] / 2**20).round())


def of_run(timings: Sequence[Mapping[str, Any]], kg: str, models: Sequence[str]) -> list[Mapping[str, Any]]:
    """The `timings` about this graph and these models; `results/` may hold other studies."""
    wanted = {"kg": {kg}, "model": set(models)}
    return [t for t in timings if all(t["wildcards"].get(name) in {None, *of} for name, of in wanted.items())]


def times(timings: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Time and memory by stage; None where nothing was timed."""
    if not timings:
        return None
    frame = stages(timings).rename(
        columns={
            "rule": "stage",
            "total": "seconds in all",
            "slowest": "slowest job (s)",
            "memory": "most memory (MiB)",
        }
    )
    return of_frame("times", frame, "Time and memory")


def datasets(summary: pd.DataFrame) -> dict[str, Any] | None:
    """Per model and dataset: cases, those strict, clusters, and what the unedited model knows."""
    rows = summary[summary["metric"] == "edit_failed"]
    if rows.empty:
        return None
    known = summary[(summary["metric"] == "known") & (summary["subset"] == "all")]
    lines = []
    for (model, dataset), part in rows.groupby(["model", "dataset"], sort=False):
        whole, strict = (part[part["subset"] == subset] for subset in ("all", "strict"))
        of_case = known[(known["model"] == model) & (known["dataset"] == dataset)].head(1)
        figures = {f"x.{f}": of_case[f].squeeze() if len(of_case) else None for f in ("value", "low", "high")}
        counted = {
            "dataset": dataset,
            "model": model,
            "test cases": int(whole["n"].max()),
            "strict": int(strict["n"].max() if len(strict) else 0),
            "clusters": int(whole["clusters"].max()),
        }
        lines.append(counted | figures)
    frame = pd.DataFrame(lines)
    columns: list[Column] = [
        plain(frame[name], name) for name in ("dataset", "model", "test cases", "strict", "clusters")
    ]
    known_before = estimate(frame, "x.value", "x.low", "x.high", "known before")
    columns.append(known_before | {"id": "known", "metric": "known", "about": metric("known").about})
    caption = (
        "In a strict case the old and the new fact cannot both hold. Cases that share entities form a "
        "cluster; intervals treat clusters, not cases, as independent."
    )
    return table("tested", "What was tested", caption, columns, len(frame))
