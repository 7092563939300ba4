"""The report page of a run: one HTML file that needs no network, and no other file unless it is large."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import yaml

from aftershock.datasets.table import DATASETS, title_of
from aftershock.figure_names import KINDS, WHOLE, figure_name
from aftershock.metrics.catalogue import metric
from aftershock.metrics.health import flagged
from aftershock.metrics.layouts import CONTROLLED, LAYOUTS
from aftershock.metrics.scales import NATS
from aftershock.page import layouts
from aftershock.page.beginnings import sink_remark, told
from aftershock.page.columns import Column, estimate, metric_names, plain, table
from aftershock.page.embed import embedded, environment
from aftershock.page.explorer import Explorer, explore
from aftershock.page.figures import Picture, inline, room_beside, shown
from aftershock.page.findings import certainty, found, level_of
from aftershock.page.knowledge import knowledge
from aftershock.page.listed import ABILITIES, CERTAINTY, DETAIL, HEALTH, PAPER, RANKING, listed
from aftershock.page.moments import remarks
from aftershock.page.ranking import answers, rank_table
from aftershock.page.sections import INTRODUCTIONS, NAVIGATION, VARIANTS
from aftershock.page.sequences import SequenceResults, heat_maps, items, told_of_sequences
from aftershock.page.variants import Compared, variants
from aftershock.page.weights import dequantised
from aftershock.training_figure import curve_name, kept_row
from aftershock.verdicts import ENOUGH_KNOWN, Verdict, first_seed, missed, unwritten, verdicts

Table = dict[str, Any]

OF_CASES = ("tables", "cases", "figures", "definitions")
"""Sections about cases, left out where a run asked about none."""

REMARKS = 6
"""Remarks that are shown at the top of the page; further ones are folded."""


@dataclass(frozen=True)
class Material:
    """Input of the page."""

    title: str
    summary: pd.DataFrame
    recall: pd.DataFrame
    runs: Sequence[Mapping[str, Any]]
    bars: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[tuple[str, str, str], bytes] = field(default_factory=dict)
    """SVG by model, dataset (or WHOLE) and kind of figure, in the order of the page."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Tables to show as they are, by file name without ending."""
    files: Sequence[str] = ()
    """Names of all files in the folder `tables/` beside the page."""
    explorer: Explorer = field(default_factory=lambda: explore([]))
    trials: Mapping[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    curves: Mapping[tuple[str, str], tuple[pd.DataFrame, bytes]] = field(default_factory=dict)
    """MEND_CURVE and its SVG by model and kind."""
    counts: Mapping[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    """Candidates kept and dropped (split, reason, candidates), by model and dataset."""
    known: Sequence[tuple[str, pd.DataFrame]] = ()
    """Each model with counts of what it knew, as page/knowledge.py reads them."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of relations by id."""
    oddities: pd.DataFrame | None = None
    """Findings about published files (columns of datasets/validate.py)."""
    moments: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """MOMENTS by model, of the models that were edited with them."""
    beginnings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The beginning of texts by model, as page/beginnings.py reads it."""
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The origin of fetched weights, by model."""
    timings: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ()
    """Published variants as the configuration has them, with names of editors."""
    compared: Mapping[tuple[str, int], Compared] = field(default_factory=dict)
    """The two sides of variants on the same cases, by model and place among the variants."""
    sequences: SequenceResults = field(default_factory=SequenceResults)


def page(material: Material) -> str:
    """The HTML of the report; every label in it is escaped."""
    return environment().get_template("report.html.j2").render(context(material))


def context(material: Material) -> dict[str, Any]:
    """Variables of the template."""
    runs, explorer = material.runs, material.explorer
    tested, ranks = (material.tables.get(name) for name in ("comparisons", "ranks"))
    everything = [*runs, *material.sequences.runs]
    models, editors = (list(dict.fromkeys(run[key] for run in everything)) for key in ("model", "editor"))
    shows_cases = bool(runs) or not material.sequences.runs
    level, told_of = level_of(material.config), told_of_sequences(material.sequences)
    bars = verdicts(material.summary, material.recall, material.bars, models)
    sections = _sections(material, bars)
    tables = [made for part in sections.values() for made in part]
    names = _metrics(tables, explorer)
    maps, single = heat_maps(material.sequences), items(material.sequences)
    data = {
        "tables": {made["id"]: made for made in tables},
        "metrics": {name: _told(name) for name in sorted(names)},
        "editors": editors,
        "sequences": {"maps": maps, "items": single},
        "main": _main(),
        "datasets": {name: dataset.title for name, dataset in DATASETS.items()},
    }
    held = {
        "data": embedded(data),
        "index": embedded(explorer.index | {"chunks": len(explorer.chunks), "inside": explorer.inside}),
        "chunks": explorer.chunks if explorer.inside else [],
    }
    of_cases = _pictures(material)
    room = room_beside(len(held["data"]) + len(held["index"]) + sum(map(len, held["chunks"])))
    figures = shown([*of_cases, *material.sequences.pictures], room)
    return {
        "title": material.title,
        "models": models,
        "editors": editors,
        "shows_cases": shows_cases,
        "pairs": explorer.pairs,
        "beside": not explorer.inside,
        "nav": [
            (id, text)
            for id, text in NAVIGATION.items()
            if id not in INTRODUCTIONS or sections[id] or (id == VARIANTS and material.variants)
            if id not in OF_CASES or shows_cases
        ],
        "tuned": bool(material.trials),
        "certainty": certainty(material.summary, everything, material.config),
        "findings": {
            model: found(material.summary, model, tested, level)
            for model in (models if shows_cases else ())
            if any(run["model"] == model for run in runs) or not runs
        },
        "ranked": {model: answers(ranks, model) for model in models if ranks is not None},
        "level": f"{100 * level:g}",
        "missed": [*explorer.holes, *missed(material.summary, bars, runs), *_setup(material)],
        "beginnings": {model: told(found) for model, found in material.beginnings.items()},
        "bars": len(bars),
        "remarks": REMARKS,
        "sections": {name: [made["id"] for made in part] for name, part in sections.items()},
        "introductions": INTRODUCTIONS | {HEALTH: f"{INTRODUCTIONS[HEALTH]}{_thresholds(material)}"},
        "variants": variants(
            material.variants, material.summary, material.compared, material.tables.get("curves"), models
        ),
        "figures": figures[: len(of_cases)],
        "curves": [_curve(*key, svg) for key, (_, svg) in material.curves.items()],
        "sequences": {
            "told": told_of,
            "figures": figures[len(of_cases) :],
            "maps": bool(maps),
            "drawn": single["items"],
        },
        "definitions": {"main": _definitions(_main()), "all": _definitions(names - set(_main()))},
        "versions": versions(material.provenance),
        "config": yaml.safe_dump(dict(material.config), sort_keys=False, allow_unicode=True),
        "provenance": json.dumps(material.provenance, indent=1, sort_keys=True, ensure_ascii=False),
        **held,
    }


def chunk_files(explorer: Explorer) -> dict[str, str]:
    """Scripts by file name that hand the page one chunk each; none where the page holds them itself."""
    if explorer.inside:
        return {}
    return {f"{place:03}.js": f"takeCases({place},{text});\n" for place, text in enumerate(explorer.chunks)}


def _sections(material: Material, bars: Sequence[Verdict]) -> dict[str, list[Table]]:
    """The tables of each section, those about results marked where they are incomplete or too weak."""
    summary, files, ranks = material.summary, material.files, material.tables.get("ranks")
    sections: dict[str, list[Table | None]] = {
        "summary": [layouts.datasets(summary), _bars(bars)],
        "tables": list(layouts.paper_tables(summary, material.runs, files)) if material.runs else [],
        RANKING: [] if ranks is None else [rank_table(ranks, files)],
        "controls": [layouts.controls(summary, files)] if material.runs else [],
        ABILITIES: [],
        HEALTH: [],
        CERTAINTY: [],
        VARIANTS: [],
        PAPER: [],
        DETAIL: [],
    }
    filled = {name: frame for name, frame in material.tables.items() if len(frame) or material.runs}
    for section, made in listed(filled, files):
        sections[section].append(made)
    marked = {name: [_marked(t, material) for t in part if t] for name, part in sections.items()}
    kept = [
        (model, kind, rows.to_dict("records")[kept_row(rows)], rows.to_dict("records")[-1])
        for (model, kind), (rows, _) in material.curves.items()
    ]
    making = [
        *knowledge(material.known, material.labels),
        layouts.counts(material.counts),
        None if material.oddities is None else layouts.oddities(material.oddities),
        layouts.recall(material.recall, files),
        *(layouts.trials(*label, rows) for label, rows in material.trials.items()),
        layouts.curves(kept) if kept else None,
    ]
    times = [layouts.times(material.timings)]
    return marked | {"making": [t for t in making if t], "run": [t for t in times if t]}


def _setup(material: Material) -> list[str]:
    """Return remarks on tuning, on the second moments and the weights of each model, and on broken ones."""
    return [
        *(line for label, rows in material.trials.items() for line in unwritten(*label, rows)),
        *(f"{model}, {remark}." for model, table in material.moments.items() for remark in remarks(table)),
        *(line for model, origin in material.origins.items() for line in dequantised(model, origin)),
        *_sinks(material.beginnings),
        *(flagged(material.tables[HEALTH]) if HEALTH in material.tables else ()),
    ]


def _thresholds(material: Material) -> str:
    """Return the thresholds from which on an edit is flagged, in words."""
    table = material.tables.get(HEALTH)
    if table is None or table.empty:
        return ""
    first = table.iloc[0]
    return (
        f" A model counts as collapsed where its perplexity is more than {first['collapse_threshold']:g} "
        f"times the unedited model's, an edit as disabling where the norm of its change is more than "
        f"{first['disabling_threshold']:g} times the median over the cases of its run."
    )


def _sinks(beginnings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A warning for each model of which a subject may stand on an attention sink."""
    remarks = ((model, sink_remark(found)) for model, found in beginnings.items())
    return [f"{model}, {remark}." for model, remark in remarks if remark]


def _marked(made: Table, material: Material) -> Table:
    """`made`, with the warnings that belong above its figures."""
    rows = first_seed(material.summary) if len(material.summary) else material.summary
    weak = set(rows.loc[(rows["metric"] == "known") & (rows["value"] < ENOUGH_KNOWN), "dataset"])
    words = [w for c in made["columns"] if c["id"] == "dataset" for w in c["words"]]
    marks = []
    if material.explorer.holes:
        marks.append("Incomplete: some cases are missing, see the summary.")
    if about := [title_of(d) for d in made.get("datasets", words) if d in weak]:
        marks.append(f"Format check only for {', '.join(about)}: too little was known before any edit.")
    return made | ({"marks": marks} if marks else {})


def _bars(bars: Sequence[Verdict]) -> Table | None:
    """The bars of the run; None without any."""
    if not bars:
        return None
    frame = pd.DataFrame([{**vars(bar), "bar": bar.what, "of": bar.who, "met": bar.met} for bar in bars])
    frame = frame.rename(columns={"value": "x.value", "low": "x.low", "high": "x.high", "n": "x.n"})
    columns: list[Column] = [plain(frame["bar"], "bar"), plain(frame["of"], "of")]
    columns.append(plain(frame["at_least"], "at_least") | {"metric": "known"})
    columns.append(
        estimate(frame, "x.value", "x.low", "x.high", "reached") | {"metric": "known", "group": ""}
    )
    columns.append(plain(frame["met"], "met"))
    caption = "What the configuration asks of this run. The value itself decides, not its interval."
    return table("bars", "Bars of this run", caption, columns, len(frame))


def _main() -> list[str]:
    """Every metric of the layouts and controls, in their order."""
    names = [c.metric for layout in LAYOUTS.values() for columns in layout.columns.values() for c in columns]
    return list(dict.fromkeys(names + [name for row in CONTROLLED for name in row[:2]]))


def _metrics(tables: Sequence[Table], explorer: Explorer) -> set[str]:
    """Every metric that the page names."""
    named = set().union(*(metric_names(made["columns"]) for made in tables)) if tables else set()
    return named | set(_main()) | set(explorer.metrics)


def _told(name: str) -> dict[str, str]:
    """A metric's title, unit, better direction and definition, for the page's scripts."""
    entry = metric(name)
    unit = "nats" if entry.scale == NATS else "percent" if entry.percent else "plain"
    return {"title": entry.title, "unit": unit, "better": entry.better, "about": entry.about}


def _definitions(names: Sequence[str] | set[str]) -> list[dict[str, str]]:
    ordered = names if isinstance(names, list) else sorted(names)
    entries = [metric(name) for name in ordered]
    return [
        {"name": e.name, "title": e.title, "about": e.about, "arrow": layouts.ARROWS[e.better]}
        for e in entries
    ]


def versions(provenance: Mapping[str, Any]) -> dict[str, str]:
    """The software that made this run, by name: every version that a stage noted."""
    found: dict[str, set[str]] = {}
    for stage in provenance.values():
        for name, version in stage.get("versions", {}).items():
            found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(of)) for name, of in sorted(found.items())}


def _pictures(material: Material) -> list[Picture]:
    """Pictures of whole runs first, then of each dataset, as the kinds of figures come."""
    return [
        Picture(
            figure_name(model, dataset, kind),
            (
                KINDS[kind].title if dataset == WHOLE else f"{title_of(dataset)}: {KINDS[kind].title}"
            ).capitalize(),
            KINDS[kind].about,
            model,
            svg,
        )
        for (model, dataset, kind), svg in material.figures.items()
    ]


def _curve(model: str, kind: str, svg: bytes) -> dict[str, str]:
    return {"model": model, "file": curve_name(model, kind), "image": inline(svg)}
