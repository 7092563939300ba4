"""The reference of methods: it is current, whole, and says where settings are from."""

import runpy
from pathlib import Path

from aftershock.editors.methods import find_methods

DOCS = Path(__file__).parents[1] / "docs"
method_page = runpy.run_path(str(DOCS / "method_reference.py"))["method_page"]
MODEL = """source: {hub: owner/name}
editors:
  # owner/release, a file
  rome: {layers: [3, 4, 5], lr: 0.5, weight_decay: 0.0, refine: false}
  # first line
  # second line
  memit:
    layers: [1]
  ft: {layers: [2]} # tried on ten facts
search:
  # no source of this
  kn: {layers: [1]}
"""


def test_the_reference_is_current() -> None:
    text = (DOCS / "method-reference.md").read_text(encoding="utf-8")
    assert text == method_page(), "write it anew: docs/method_reference.py > docs/method-reference.md"


def test_every_method_has_a_section_with_its_source_and_its_needs() -> None:
    sections = method_page().split("\n## ")[1:]
    assert len(sections) == len(find_methods())
    for (name, found), section in zip(sorted(find_methods().items()), sections, strict=True):
        assert section.startswith(f"{found.method.title}\n")
        assert f"`{name}`, from {found.method.source}. It changes {found.method.changes}." in section
        assert "* Made first: " in section
        assert "* Time of an edit: " in section


def test_settings_of_a_model_stand_beside_their_source(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(MODEL, encoding="utf-8")
    (tmp_path / "own.yaml").write_text("train: {}\neditors: {rome: {layers: [0]}}\n", encoding="utf-8")
    page = method_page(tmp_path)
    line = (
        "| some | `layers: 3 to 5`, `lr: 0.5`, `weight_decay: 0.0`, `refine: false` | owner/release, a file |"
    )
    assert line in page
    assert "| some | `layers: [1]` | first line second line |" in page
    assert "| some | `layers: [2]` | tried on ten facts |" in page
    assert "| own |" not in page
