"""Methods from packages, files and entry points, and what is said of those that break the contract."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from aftershock.config import check_config, merged_settings
from aftershock.editors import methods
from aftershock.editors.artifacts import ARTIFACTS
from aftershock.editors.contract import Editor, is_in_order
from aftershock.editors.methods import find_methods, method_of, settings_of
from aftershock.editors.overview import families_table, methods_table
from aftershock.lm.families import list_families
from aftershock.provenance.code_hash import code_hash, parse_module

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "methods" / "gradient_step.py"
TITLE = 'title="Gradient step",'
TEXT = EXAMPLE.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def forgotten():
    """Find methods anew, before and after each test."""
    find_methods.cache_clear()
    method_of.cache_clear()
    yield
    find_methods.cache_clear()
    method_of.cache_clear()


@pytest.fixture
def config():
    """The configuration of the demo."""
    return yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_methods_are_the_packages_beside_the_contract():
    found = find_methods()
    folders = {path.parent.name for path in (ROOT / "workflow/aftershock/editors").glob("*/__init__.py")}
    assert set(found) == folders >= {"ft", "rome", "r_rome", "memit", "mend"}
    for method in found.values():
        assert issubclass(method.load(), Editor)
        assert method.method.title
        assert method.method.source
        assert method.code == [method.editor]


def test_a_method_is_one_file_that_lies_anywhere(tmp_path):
    found = method_of(write(tmp_path / "a b", TEXT))
    assert (found.name, found.method.title) == ("mine", "Gradient step")
    assert issubclass(found.load(), Editor)
    assert settings_of(str(tmp_path / "a b" / "mine.py"), {"rate": 2.0}).rate == 2.0
    with pytest.raises(ValueError, match=r"rat: unknown setting; did you mean 'rate'\?"):
        settings_of(str(tmp_path / "a b" / "mine.py"), {"rat": 2.0})
    assert found.code == [str(tmp_path / "a b" / "mine.py")]


def test_a_method_is_a_package_whose_editor_loads_late(tmp_path):
    head, _, rest = TEXT.partition("class GradientStep(Editor)")
    editor, _, record = rest.partition("METHOD = ")
    write(
        tmp_path / "mine",
        f"{head}METHOD = {record.replace(':GradientStep', '.edit:GradientStep')}",
        "__init__.py",
    )
    imports = "import torch\nfrom aftershock.editors.contract import Editor, EditResult\n\n\n"
    body = f"{imports}class GradientStep(Editor){editor}"
    write(tmp_path / "mine", body, "edit.py")
    found = method_of(str(tmp_path / "mine"))
    assert found.load().__name__ == "GradientStep"
    before = [code_hash(root) for root in found.code]
    write(tmp_path / "mine", body.replace("(1,) * n", "(2,) * n"), "edit.py")
    parse_module.cache_clear()
    assert [code_hash(root) for root in found.code] != before


def test_a_method_of_an_entry_point_has_a_name(tmp_path, monkeypatch):
    write(tmp_path, TEXT, "their_method.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = SimpleNamespace(name="theirs", module="their_method")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    found = method_of("theirs")
    assert issubclass(found.load(), Editor)
    assert found.code == [str(tmp_path / "their_method.py")]
    point.name = "rome"
    find_methods.cache_clear()
    with pytest.raises(ValueError, match=r"two .* called 'rome': aftershock.editors.rome and their_method"):
        find_methods()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("METHOD = Method(", "OTHER = Method(", "METHOD should be a Method .* found None"),
        ('editor=":GradientStep"', 'editor=":Step"', r"should define the class Step; found GradientStep"),
        ('editor=":GradientStep"', 'editor="step"', r"editor should be 'module:Class'"),
        (
            'editor=":GradientStep"',
            'editor="nowhere.edit:Step"',
            r"name a module that exists; found no nowhere",
        ),
        (
            "    def edit(self",
            "    def edits(self",
            r"should define edit\(cases, state, memory\); found edits",
        ),
        ("(Editor):", ":", "should be derived from Editor .* found no base class"),
        ("layers: Layers = (0,)", "layers: Layers", "fields all have defaults; found"),
        ("layers: Layers = (0,)", "layer: int = 0", "settings should have a field layers"),
        (
            "layers=lambda n_layers: (n_layers // 2,)",
            "layers=lambda n: (n,)",
            r"layers\(1\) should be .* 0 to 0; found \(1,\)",
        ),
        (
            TITLE,
            'title="x", artifacts=("mom2",),',
            r"some of attention_moments, hypernetwork, moments, .*; found 'mom2'",
        ),
        (
            TITLE,
            'title="x", families=("gpt2", "gpt9"),',
            r"families should be some of .*gpt2, .*; found 'gpt9'",
        ),
        (TITLE, 'title="x", artifacts=lambda s: s.none,', "artifacts should be names, .*AttributeError"),
        (
            "from pydantic",
            "import nothing_like_this\nfrom pydantic",
            "cannot be imported: ModuleNotFoundError",
        ),
        (
            "from pydantic",
            "import sys\nsys.exit('later')\nfrom pydantic",
            "cannot be imported: SystemExit: later",
        ),
    ],
)
def test_what_breaks_the_contract_is_said(tmp_path, old, new, said):
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ValueError, match=said) as caught:
        method_of(path)
    assert str(caught.value).startswith(f"editing method 'mine' ({path})")


@pytest.mark.parametrize("text", ["class Step(Editor:\n", "x\0", "\ufffeclass Step(Editor): pass"])
def test_an_editor_that_is_no_python_is_said_before_it_is_loaded(tmp_path, text):
    record = TEXT.replace(":GradientStep", ".edit:GradientStep")
    write(tmp_path / "mine", record, "__init__.py")
    write(tmp_path / "mine", text, "edit.py")
    with pytest.raises(ValueError, match=r"breaks the contract .*\n  edit\.py should hold Python; found "):
        method_of(str(tmp_path / "mine"))


def test_a_file_that_loads_torch_when_planning_is_refused(tmp_path):
    path = write(tmp_path, "import torch\n" + TEXT)
    code = f"from aftershock.editors.methods import method_of\nmethod_of({path!r})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
    )
    assert "importing METHOD should load no tensor library" in run.stderr
    assert "found that torch" in run.stderr


def test_every_artifact_has_a_rule_that_makes_it():
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    for name, artifact in ARTIFACTS.items():
        assert f"rule {artifact.rule}:" in rules, name
        module, _, function = artifact.load.partition(":")
        assert hasattr(__import__(module, fromlist=[function]), function)


def test_only_settings_that_say_so_run_in_order():
    assert is_in_order(settings_of("mend", {"variant": "released"}))
    assert not any(is_in_order(found.settings()) for found in find_methods().values())


@pytest.mark.parametrize(
    ("editor", "said"),
    [
        ({"method": "nothing/mine.py"}, "editors.mine.method: .* there is no such file"),
        ({"method": "memti"}, "editors.mine.method: unknown editing method 'memti'; did you mean 'memit'"),
        (
            {"method": "rome", "settings": {"mom2_weight": 1.0}},
            "editors.mine.settings.mom2_weight: unknown setting",
        ),
    ],
)
def test_a_config_names_the_key_before_any_job(config, editor, said):
    config["editors"]["mine"] = editor
    with pytest.raises(ValueError, match=said):
        check_config(config, ROOT)


@pytest.mark.parametrize("families", ['("llama", "gptj")', 'lambda family: family in ("gptj", "llama")'])
def test_a_family_that_a_method_cannot_edit_is_refused_before_any_job(config, tmp_path, families):
    path = write(tmp_path, TEXT.replace(TITLE, f'title="x", families={families},'))
    config["editors"]["mine"] = {"method": path}
    said = "editors.mine: mine cannot edit a model of family gpt2, only of gptj, llama; demo-4x128 is one"
    with pytest.raises(ValueError, match=said):
        check_config(config, ROOT)
    config["editors"]["mine"] = None
    check_config(config, ROOT)


def test_a_method_without_layers_has_none_to_give(config):
    config["editors"]["mine"] = {"method": "in_context"}
    models = check_config(config, ROOT)
    assert "layers" not in merged_settings(config["editors"]["mine"], models["demo-4x128"])
    config["editors"]["mine"]["settings"] = {"layers": [1]}
    with pytest.raises(ValueError, match="editors.mine.settings.layers: unknown setting"):
        check_config(config, ROOT)


def test_the_overview_names_every_method_and_the_families_it_leaves_out(tmp_path):
    found = find_methods()
    lines = methods_table(found.values())
    assert [line.split("`")[1] for line in lines[2:]] == list(found)
    assert {line.count(" | ") for line in lines} == {5}
    assert "| 4 |" in next(line for line in lines if "`rome`" in line)  # a sixth of 24
    path = write(tmp_path, TEXT.replace(TITLE, 'title="x", families=("gpt2",),'))
    *_, rome, mine = families_table([found["rome"], method_of(path)])
    assert rome.endswith(f"| all {len(list_families())} |")
    assert "all but apertus, " in mine
    assert "gpt2," not in mine


def test_a_config_takes_a_method_by_its_path(config):
    config["editors"]["mine"] = {"method": str(EXAMPLE), "settings": {"rate": 0.1}}
    check_config(config, ROOT)
    assert methods.default_layers(str(EXAMPLE), 12) == (6,)


def test_the_guide_names_every_method():
    guide = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
    rows = {line.split(" | ")[0].removeprefix("| ") for line in guide.splitlines() if line.startswith("| ")}
    assert {found.method.title for found in find_methods().values()} <= rows
