"""The reference of methods: it is current, whole, and says where settings are from."""

from pathlib import Path

from typer.testing import CliRunner

from aftershock.command.app import app
from aftershock.command.method_page import method_page
from aftershock.editors.methods import find_methods

PAGE = Path(__file__).parents[1] / "docs" / "method-reference.md"
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
    text = PAGE.read_text(encoding="utf-8")
    assert text == method_page(), "write it anew: aftershock list methods --page > docs/method-reference.md"


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


def test_the_command_prints_the_page_and_has_one_about_methods_alone() -> None:
    printed = CliRunner().invoke(app, ["list", "methods", "--page"])
    assert printed.output == PAGE.read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, ["list", "tasks", "--page"])
    assert refused.exit_code != 0
    assert "there is a page about methods alone, not about tasks" in refused.output
