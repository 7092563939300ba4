"""Tables as the paper prints them: complete, escaped, LaTeX that compiles; and captions of the report."""

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pandas as pd
import pytest

import simulate
from aftershock.figure_names import KINDS
from aftershock.labels import for_latex, for_markdown
from aftershock.metrics.layouts import LAYOUTS, PAPER
from aftershock.paper.tables import Entry, body, latex, markdown, paper_tables
from aftershock.tables.report import SUMMARY
from simulate import HOSTILE, summary_of
from simulated import simulated_run

TABLE2 = LAYOUTS["table2"].columns["released"]


def run_of(dataset="round_easy", **about):
    return simulate.run_of(dataset, **about)


@pytest.fixture(scope="module")
def two():
    """Files of two methods on two models; the second model has a value of one method only."""
    rome = {"ignore_rate": [0.5, 0.5], "distortion_released": [0.02, 0.04], "success_released": [1.0, 1.0]}
    ft = {"ignore_rate": [0.0, 0.5], "distortion_released": [0.05, 0.05], "success_released": [1.0, 1.0]}
    runs = [run_of(), run_of(editor="ft"), run_of(model="other_1"), run_of(editor="ft", model="other_1")]
    parts = [summary_of(rome, runs[0]), summary_of(ft, runs[1]), summary_of(ft, runs[2])]
    return paper_tables(pd.concat(parts), runs)


def test_every_layout_comes_in_both_definitions_formats_and_with_intervals(two):
    names = ["single", "table1", "table1_released", "table2", "table2_released"]
    assert set(two) == {f"{n}{i}.{k}" for n in names for i in ("", "_intervals") for k in ("tex", "md")}


def test_a_latex_table_by_hand(two):
    arrows = r"Succ $\uparrow$ & D $\downarrow$ & IR $\downarrow$ & FR $\downarrow$"
    expected = r"""
    \toprule
    & & \multicolumn{4}{c}{Easy} & \multicolumn{4}{c}{Hard} \\
    \cmidrule(lr){3-6} \cmidrule(lr){7-10}
    Model & Method & ARROWS & ARROWS \\
    \midrule
    demo & rome & $100.0$ & $\mathbf{3.00}$ & $50.0$ & -- & -- & -- & -- & -- \\
     & ft & $100.0$ & $5.00$ & $\mathbf{25.0}$ & -- & -- & -- & -- & -- \\
    \midrule
    other\_1 & rome & $100.0$ & $5.00$ & $25.0$ & -- & -- & -- & -- & -- \\
     & ft & -- & -- & -- & -- & -- & -- & -- & -- \\
    \bottomrule
"""
    text = two["table2_released.tex"]
    assert text[text.index("\n    \\toprule") : text.index("  \\end{tabular}")] == expected.replace(
        "ARROWS", arrows
    )
    assert "Knowledge distortion, as the released code computes them. Cases: round easy 2." in text
    assert text.startswith("% \\usepackage{booktabs}\n\\begin{table*}[t]\n")


def test_a_markdown_table_by_hand(two):
    lines = two["table2_released.md"].splitlines()
    assert lines[2].startswith(
        "| Model | Method | Easy Succ ↑ | Easy D ↓ | Easy IR ↓ | Easy FR ↓ | Hard Succ ↑ |"
    )
    assert lines[3] == "| --- | --- " + "| ---: " * 8 + "|"
    assert lines[4:6] == [
        "| demo | rome | 100.0 | **3.00** | 50.0 | – | – | – | – | – |",
        "| demo | ft | 100.0 | 5.00 | **25.0** | – | – | – | – | – |",
    ]
    assert lines[6].startswith("| other\\_1 | rome |")


def test_intervals_stand_beside_the_values():
    columns = [type(TABLE2[0])("G", "IR", "c", "ignore_rate")]
    row = {"model": "m", "editor": "e", "seed": 0}
    row |= {f"c.ignore_rate.{name}": x for name, x in (("value", 0.5), ("low", 0.25), ("high", 0.75))}
    line = body(pd.DataFrame([row]), columns)
    assert line[0].entries == (Entry("50.0", "25.0", "75.0", False),)
    assert "$50.0\\,^{75.0}_{25.0}$" in latex(line, columns, "t", "l", intervals=0.95)
    assert "of 90\\,\\% intervals" in latex(line, columns, "t", "l", intervals=0.9)
    assert "50.0 (25.0 to 75.0)" in markdown(line, columns, "t", intervals=0.95)


def test_what_is_printed_decides_which_is_best():
    """Two values that print alike are equally good, whatever their further digits."""
    values = {"rome": [0.50001, 0.5], "ft": [0.5, 0.5], "memit": [0.6, 0.6]}
    runs = [run_of(editor=editor) for editor in values]
    parts = [summary_of({"ignore_rate": values[run["editor"]]}, run) for run in runs]
    assert paper_tables(pd.concat(parts), runs)["table2.md"].count("**50.0**") == 2


def test_negative_values_keep_their_sign_and_several_seeds_are_told_apart():
    runs = [run_of("reverse", seed=s) for s in (0, 1)]
    drops = {"conflict_magnitude": [-0.3, -0.2, -0.0004]}
    files = paper_tables(pd.concat([summary_of(drops, run) for run in runs]), runs)
    assert "rome (seed 1) & -- & -- & -- & -- & -- & $-16.7$" in files["table1.tex"]
    assert "| rome \\(seed 0\\) |" in files["table1.md"]
    assert "−16.7" in files["table1.md"]


def test_no_run_and_no_case_make_empty_tables():
    files = paper_tables(SUMMARY.empty(), [])
    assert "\\bottomrule" in files["table1.tex"]
    assert "–" in paper_tables(SUMMARY.empty(), [run_of()])["table2.md"]


def test_labels_are_text_in_latex_and_markdown():
    assert for_latex("a_b & 5% $x$ #1 {y} ~ ^ \\") == (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert for_latex("Ünïcödé 漢") == "Ünïcödé [U+6F22]"
    assert for_latex("a\u202eb\n") == "a[U+FFFD]b[U+FFFD]"
    assert for_markdown("a|b *c* <i> [x](y) `z`") == r"a\|b \*c\* &lt;i\> \[x\]\(y\) \`z\`"


@pytest.mark.parametrize("label", HOSTILE)
def test_a_hostile_label_changes_no_columns(label):
    run = run_of(editor=label, model=label)
    files = paper_tables(summary_of({"ignore_rate": [0.5, 0.25]}, run), [run])
    (row,) = [line for line in files["table2.tex"].splitlines() if line.endswith(r"\\") and "37.5" in line]
    assert len(re.findall(r"(?<!\\)&", row)) == 9
    (row,) = [line for line in files["table2.md"].splitlines() if "37.5" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 11


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex, which nothing else here does")
@pytest.mark.parametrize("labels", [("ft", "rome", "memit", "memit_mle"), HOSTILE])
def test_the_latex_compiles(tmp_path, labels):
    compiled = simulated_run()
    editors = dict(zip(dict.fromkeys(run["editor"] for run in compiled.runs), labels, strict=False))
    runs = [{**run, "editor": editors[run["editor"]], "model": "gpt_2%$"} for run in compiled.runs]
    summary = compiled.summary.assign(editor=compiled.summary["editor"].map(editors), model="gpt_2%$")
    files = {n: t for n, t in paper_tables(summary, runs).items() if n.endswith(".tex")}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    inputs = "\n".join(f"\\input{{{name}}}" for name in files)
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage[margin=2cm]{geometry}\\usepackage{booktabs}"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    if labels is not HOSTILE:
        assert "Overfull" not in done.stdout


FOLDER = Path(__file__).parents[1] / "workflow" / "report"
STRICT = {"halt_level": 2, "report_level": 5}


def rendered(name, params=None, **wildcards):
    """A caption as HTML, made in the way Snakemake does; a fault in its markup is an error."""
    given = SimpleNamespace(wildcards=SimpleNamespace(**wildcards), params=SimpleNamespace(**(params or {})))
    template = jinja2.Template((FOLDER / name).read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    text = template.render(snakemake=given)
    return docutils.core.publish_parts(text, writer="html", settings_overrides=STRICT)["fragment"]


@pytest.mark.parametrize("kind", [*KINDS, "all", "conflict", "round"])
def test_every_kind_of_figure_has_a_caption(kind):
    about = {name: words.about for name, words in KINDS.items()}
    html = rendered("figure.rst", {"about": about}, model="demo-4x128", dataset="reverse", kind=kind)
    assert "Model demo-4x128." in html
    assert (KINDS[kind].about[:40] if kind in KINDS else "hypernetwork") in html


def test_every_table_of_the_paper_has_its_own_caption():
    names = [
        name if definition == PAPER else f"{name}_{definition}"
        for name, layout in LAYOUTS.items()
        for definition in layout.columns
    ]
    captions = {
        name: rendered("table.rst", table=name) for name in (*names, "reported", "claims", "unheard of")
    }
    assert len(set(captions.values())) == len(captions)
    assert all("ends of intervals" in caption for caption in captions.values())
