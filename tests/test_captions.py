"""Captions of `snakemake --report`: one for every figure and table that a run makes."""

from pathlib import Path
from types import SimpleNamespace

import docutils.core
import jinja2
import pytest

from aftershock.figure_names import KINDS
from aftershock.metrics.layouts import LAYOUTS, PAPER

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
