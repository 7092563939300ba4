"""The command `aftershock`, as a user calls it."""

import io
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import started
from aftershock import project
from aftershock.command import files
from aftershock.command.files import find_configs, snakemake_arguments
from aftershock.datasets.table import DATASETS
from aftershock.editors.methods import find_methods
from gguf_writing import write_gguf

ROOT = Path(__file__).parents[1]
STUDIES = {
    "laptop": "study: mine\n",
    "list": "- 1\n",
    "broken": "seeds: [1\n",
    "models": "models: [gpt2-lx]\n",
    "key": "sead: [1]\n",
    "gguf": "models: [odd]\n",
}
SMALL = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 9}
"""The configuration of a model."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run", "--corse", "3", "laptop"], "No such option: --corse (Possible options: --cores)"),
        (
            ["run", "laptpo"],
            "aftershock run: there is no configuration file 'laptpo'. Did you mean 'laptop'?",
        ),
        (
            ["plan", "mine.yml"],
            "aftershock plan: there is no configuration file 'mine.yml'. Did you mean 'mine.yaml'?",
        ),
        (["list", "metods"], "'metods' is not one of 'methods'"),
        (["validate", "nowhere"], "aftershock validate: nowhere is not a folder"),
        (["verify"], "aftershock verify: there is no results/manifest.json"),
        (["add-model", "nowhere.gguf"], "aftershock add-model: there is no file 'nowhere.gguf'"),
        (
            ["add-model", "nowhere"],
            "'nowhere' is no folder, no GGUF file (*.gguf) and no owner/name",
        ),
        (["add-model", "nobody/nothing"], "nobody/nothing at revision main cannot be fetched"),
        (["plan", "my studies/laptop.yml"], "Did you mean 'my studies/laptop.yaml'?"),
        (["plan", "my studies/list.yaml"], "my studies/list.yaml: expected keys and values, found [1]"),
        (["queries", "my studies/broken.yaml"], "my studies/broken.yaml is not YAML: "),
        (
            ["plan", "my studies/models.yaml"],
            "models: 'gpt2-lx' has no file resources/models/gpt2-lx.yaml; did",
        ),
        (["plan", "my studies/key.yaml"], "sead: unknown key; did you mean"),
        (["plan", "laptop", "--gpu", "h100"], "device 'h100' is unknown; did you mean"),
        (["demo", "--profile", "slrum"], "there is no profile 'slrum'. Did you mean 'slurm'?"),
        (
            ["add-model", "odd.gguf", "--name", "other"],
            "odd.gguf has the architecture 'odd'; those that can be read from GGUF are",
        ),
        (["add-model", "mine.yaml/none.gguf"], "there is no file 'mine.yaml/none.gguf'"),
        (["queries", "pitfalls", "--to", "mine.yaml"], "mine.yaml cannot be used: file exists"),
        (["plan", "my studies/gguf.yaml"], "source.gguf: odd.gguf has the architecture 'odd', of which no"),
        (["plan", "my studies/wide.yaml"], "wide.yaml is not UTF-8"),
        *((["add-model", "own", "--name", name], "--name: ") for name in ("a b", "models", "../x", ".x")),
    ],
)
def test_what_cannot_work_is_one_message_and_status_2(
    call: Callable, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "mine.yaml").write_text("seeds: [1]\n")
    (tmp_path / "my studies").mkdir()
    for name, text in STUDIES.items():
        (tmp_path / "my studies" / f"{name}.yaml").write_text(text)
    (tmp_path / "my studies" / "wide.yaml").write_text("study: a\n", encoding="utf-16")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "resources" / "models").mkdir(parents=True)
    (tmp_path / "resources" / "models" / "odd.yaml").write_text("source: {gguf: odd.gguf}\nn_layers: 2\n")
    write_gguf(tmp_path / "odd.gguf", architecture="odd")
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(("aftershock ", "Usage: "))
    assert message in err


@pytest.mark.parametrize(
    "arguments",
    [["demo", "--dry-run"], ["run", "laptop", "--profile", "slurm"], ["resume"], ["verify"], ["plan"]],
)
def test_a_wheel_without_snakemake_says_what_to_install(call: Callable, monkeypatch, arguments) -> None:
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    monkeypatch.setattr(project, "IN_CHECKOUT", False)
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert 'pip install "aftershock[workflow]"' in err


def test_a_study_elsewhere_is_run_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "my studies").mkdir()
    (tmp_path / "here").mkdir()
    for name, text in STUDIES.items():
        (tmp_path / "my studies" / f"{name}.yaml").write_text(text)
    environment = {"PYTHONPATH": str(ROOT / "workflow")}

    def run(name: str) -> subprocess.CompletedProcess:
        study = str(tmp_path / "my studies" / f"{name}.yaml")
        return started.module("aftershock", tmp_path / "here", "run", study, "--dry-run", **environment)

    sound = run("laptop")
    assert sound.returncode == 0, sound.stderr
    assert "results/report/mine/index.html" in sound.stdout + sound.stderr
    wrong = run("models")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(
        "aftershock run: 1 error in the configuration or in resources/:\n  models: 'gpt2-lx'"
    )


def test_demo_makes_the_files_that_are_named(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def launch(arguments: list[str]) -> None:
        given.append(arguments)
        raise SystemExit

    monkeypatch.setattr("aftershock.launch.launch", launch)
    call("demo", "--cores", "1", "-n", "results/kg/world/world.nt.gz", "facts", "--", "--keep-going")
    (arguments,) = given
    assert arguments[:2] == ["results/kg/world/world.nt.gz", "facts"]
    assert {"--dry-run", "--keep-going"} <= set(arguments)


def test_help_in_the_documentation_is_what_is_said(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    shown = re.findall(r"^    \$ aftershock (.*)--help\n((?:(?:    [^$].*)?\n)+)", text, flags=re.MULTILINE)
    assert len(shown) > 3
    for subcommand, block in shown:
        code, out, _ = call(*subcommand.split(), "--help")
        lines = [line.removeprefix("    ").rstrip() for line in block.strip("\n").splitlines()]
        assert (code, [line.rstrip() for line in out.strip("\n").splitlines()]) == (0, lines)


@pytest.mark.parametrize("what", ["methods", "families", "datasets", "tasks", "metrics"])
def test_all_that_is_listed_has_a_line(call: Callable, what: str) -> None:
    code, out, _ = call("list", what)
    assert code == 0
    assert all(len(line.split(maxsplit=1)) == 2 for line in out.splitlines())
    expected = {"methods": find_methods(), "datasets": DATASETS}.get(what)
    assert expected is None or {line.split()[0] for line in out.splitlines()} == set(expected)


def test_configuration_files_go_by_their_path_or_by_the_name_of_a_study(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("seeds: [1]\n")
    shipped = str(ROOT / "resources/studies/laptop.yaml")
    assert find_configs(["laptop", "resources/studies/laptop.yaml", "mine.yaml"]) == [
        shipped,
        shipped,
        "mine.yaml",
    ]
    monkeypatch.chdir(ROOT)
    assert find_configs(["laptop"]) == ["resources/studies/laptop.yaml"]


def test_arguments_of_a_run(tmp_path, monkeypatch) -> None:
    snakefile = ["--snakefile", str(ROOT / "Snakefile")]
    monkeypatch.chdir(tmp_path)
    assert snakemake_arguments() == ["--cores", "all", *snakefile]
    found = snakemake_arguments(["a.yaml", "b.yaml"], ["facts"], 3, None, True, ["--keep-going"])
    assert found == [
        "facts",
        "--cores",
        "3",
        "--dry-run",
        *snakefile,
        "--keep-going",
        "--configfile",
        "a.yaml",
        "b.yaml",
    ]
    shipped = str(ROOT / "workflow/profiles/slurm")
    assert snakemake_arguments(profile="slurm") == ["--profile", shipped, *snakefile]
    assert files.find_profile("path/to/copy") == "path/to/copy"
    monkeypatch.chdir(ROOT)
    assert snakemake_arguments(cores=2) == ["--cores", "2"]


def test_messages_name_the_command_that_started_the_run(monkeypatch) -> None:
    assert project.command("verify", "--sample 0") == "aftershock verify --sample 0"
    monkeypatch.setenv("MAKELEVEL", "1")
    assert project.command("why") == "make why"
    assert project.command("verify", "--sample 0") == "make verify ARGS='--sample 0'"


@pytest.mark.parametrize("content", [b"", b"# only a comment\n"])
def test_a_configuration_without_keys_changes_nothing(call: Callable, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty.yaml").write_bytes(content)
    code, out, err = call("plan", "empty.yaml")
    assert code == 0, err
    assert find_configs(["empty.yaml", "laptop"]) == find_configs(["laptop"])


def test_a_configuration_has_to_be_utf8(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("study: a\n", encoding="utf-16")
    code, _, err = call("plan", "wide.yaml")
    assert code == 2
    assert "wide.yaml is not UTF-8" in err


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", shown)
    project.escape_unwritable()
    print("Müller, Łódź")
    shown.flush()
    assert shown.buffer.getvalue() == "Müller, \\u0141ódź\n".replace("ź", "\\u017a").encode("latin-1")
