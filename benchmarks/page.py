"""Seconds to make, open and filter a page of many cases, with simulated runs in a headless browser.

    python benchmarks/page.py [--cases 2400] [--folder DIR]

Every dataset has this many test cases under five methods: 2 400 of each make 60 000 case-method pairs. The
page also holds a table of as many rows as a page takes.
Seconds of the browser are wall-clock; its computing time stands beside them, because other programs may
share the machine. Opening lasts from the request to the load event and the first drawn frame after it;
filtering from a choice to the frame that shows it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

import numpy as np
import pandas as pd

import pages
from aftershock.datasets.table import DATASETS
from aftershock.page.columns import LONGEST
from aftershock.page.explorer import Outcome, Setting, explore
from aftershock.report import chunk_files, page
from browser import Browser

SEEN = 24
METHODS = ("ft", "rome", "memit", "mend", "memit_mle")
FILTERS = (
    *(("text", text) for text in ("a", "ada", "")),
    *(("outcome", "3:2"), ("outcome", "")),
    *(("strict", True), ("editor", "rome"), ("dataset", "composite")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page, open it, filter, and print what each step took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2400, help="test cases of each dataset")
    parser.add_argument("--folder", type=Path, help="where the page is kept; else it is removed")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        (folder / "cases").mkdir(parents=True, exist_ok=True)
        made(args.cases, folder)
        with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
            opened(browser, folder)
            filtered(browser)
            shown(browser)
            if browser.problems:
                print("problems:", browser.problems)
    return 0


def made(cases: int, folder: Path) -> None:
    """Write the page of `cases` cases per dataset, and say how long that took and how large it is."""
    start = time.process_time()
    explorer = explore(settings(cases))
    print(f"{explorer.pairs} case-method pairs in {len(explorer.chunks)} chunks")
    print(f"explorer made in {time.process_time() - start:.1f} s of computing")
    start = time.process_time()
    summary = pages.summary()
    long = pd.concat([summary] * (LONGEST // len(summary) + 1), ignore_index=True)
    html = page(pages.material(explorer=explorer, tables={"summary": summary, "breakdowns": long}))
    (folder / "index.html").write_text(html, encoding="utf-8")
    files = chunk_files(explorer)
    for name, text in files.items():
        (folder / "cases" / name).write_text(text, encoding="utf-8")
    sizes = [len(text) for text in files.values()]
    print(f"page made in {time.process_time() - start:.1f} s of computing: {len(html) / 1e6:.2f} MB")
    print(f"chunks: {sum(sizes) / 1e6:.1f} MB, the largest {max(sizes) / 1e3:.0f} kB")


def settings(cases: int) -> Iterator[Setting]:
    """Every dataset with `cases` cases: simulated ones over and over, each copy with its own subjects."""
    for seen in pages.settings(SEEN):
        copies = -(-cases // SEEN)
        runs = [
            Outcome(
                {**seen.runs[place % len(seen.runs)].run, "editor": editor},
                repeated(seen.runs[place % len(seen.runs)].probabilities, copies),
                repeated(seen.runs[place % len(seen.runs)].scores, copies),
            )
            for place, editor in enumerate(METHODS)
        ]
        tables = (repeated(frame, copies) for frame in (seen.cases, seen.edits, seen.probes))
        yield Setting(seen.model, seen.dataset, *tables, seen.prompts, runs)


def repeated(frame: pd.DataFrame, copies: int) -> pd.DataFrame:
    """`frame` with as many copies of its cases, under new numbers and subjects."""
    whole = pd.concat([frame] * copies, ignore_index=True)
    copy = np.repeat(np.arange(copies), len(frame))
    whole["case_id"] += SEEN * copy
    if "subject" in whole:
        whole["subject"] += pd.Series(copy).astype(str).radd(" ")
    return whole


def opened(browser: Browser, folder: Path) -> None:
    """Time three openings."""
    walls, busy = [], []
    for _ in range(3):
        browser.open("about:blank")
        before, start = computing(browser), time.perf_counter()
        browser.open((folder / "index.html").as_uri())
        browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        walls.append(time.perf_counter() - start)
        busy.append(computing(browser) - before)
    print(f"opens in {median(walls):.2f} s ({median(busy):.2f} s of computing), longest {max(walls):.2f} s")


def computing(browser: Browser) -> float:
    """Seconds that the page's process has spent on tasks."""
    browser.ask("Performance.enable", timeDomain="timeTicks")
    found = {m["name"]: m["value"] for m in browser.ask("Performance.getMetrics")["metrics"]}
    return found.get("ProcessTime", found["TaskDuration"])


def filtered(browser: Browser) -> None:
    """Time each change of a choice until the next frame shows it."""
    for key, value in FILTERS:
        took = browser.run(
            f"""new Promise(done => {{
            const start = performance.now();
            explorer.want({json.dumps(key)}, {json.dumps(value)});
            const own = performance.now() - start;
            requestAnimationFrame(() => setTimeout(() => done([performance.now() - start, own])));
            }})"""
        )
        print(f"filter {key} = {value!r}: {took[0]:.0f} ms to the frame, {took[1]:.0f} ms in scripts")
    print(browser.run("explorer.status.textContent"))


def shown(browser: Browser) -> None:
    """Time the opening of a case whose chunk was not loaded yet, for three chunks."""
    for dataset in DATASETS[:3]:
        start = time.perf_counter()
        browser.run(f"location.hash = '#case=demo/{dataset}/rome/0/1000'")
        browser.wait(
            f"explorer.detail.innerText.includes('case 1000') && location.hash.includes('{dataset}')"
        )
        print(f"case of {dataset} shown in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
