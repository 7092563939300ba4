"""Shared by all tests: one thread, programs that only CI has to have, and runs in one process."""

import gc
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", MPLBACKEND="agg")

os.environ.pop("MAKELEVEL", None)  # messages name the subcommands of `aftershock`, see aftershock.project

import pytest

GROUPS = {
    "simulated": (
        *("test_claims", "test_figures", "test_health", "test_page", "test_page_browser", "test_page_cases"),
        *("test_page_explorer", "test_paper_tables", "test_report", "test_reported"),
    ),
    "contract": ("test_context", "test_contract", "test_edits", "test_retrieval", "test_task_engines"),
    "planned": ("test_known", "test_plan", "test_workflow"),
    "sequences": ("test_abilities", "test_collapse", "test_page_variants", "test_sequence_curves"),
    "slice": ("test_kg_slice", "test_kg_sources", "test_splits", "test_true_objects"),
}
"""Files that use what is made once: simulated runs and sequences, a model that knows facts, a plan."""
GROUP_OF = {file: group for group, files in GROUPS.items() for file in files}
LONGEST = (
    *("simulated", "test_verify", "planned", "contract", "test_runs", "sequences", "test_sequences"),
    *("test_paraphrases_runs", "test_task_rules", "test_sequence_rules", "test_offline", "test_preflight"),
    *("test_forking", "test_patches", "test_shared_training", "slice"),
)
"""Groups that start first, so that at the end no process waits long for another."""

# Libraries are imported while tests are collected, and all that they make stays to the end: it is neither
# searched for garbage meanwhile nor ever again, which saves seconds and makes each later search short.
gc.disable()


def pytest_collection_finish() -> None:
    """Search only what tests make for garbage."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Search once what a file leaves, such as models and tables that others use, and never again."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def group_of(file: str) -> str:
    """The group of a file of tests, by default its own."""
    return GROUP_OF.get(Path(file).stem, Path(file).stem)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest groups first where several processes share the work."""
    if config.pluginmanager.hasplugin("xdist"):
        last = len(LONGEST)
        places = {group: place for place, group in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(group_of(item.path.name), last))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process run all tests of a group, whatever `--dist` says.

    `--dist loadgroup` would go by marks, but what xdist 3.8 adds to a test's id pytest 9 does not see.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    config.option.loadscopereorder = False  # by number of tests
    return ByGroup(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `program(name)` where the program is missing; in CI that is a failure.

    One marked `plain_path` is skipped in a folder whose name has spaces.
    """
    if item.get_closest_marker("plain_path") and " " in sys.executable:
        pytest.skip("needs a folder without spaces in its path")
    for mark in item.iter_markers("program"):
        missing = [name for name in mark.args if shutil.which(name) is None]
        if missing and os.environ.get("AFTERSHOCK_CI"):
            pytest.fail(f"{', '.join(missing)} is missing; add its package to .ci/apt.txt", pytrace=False)
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def slice_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the slice of Wikidata."""
    from worlds import SLICE, load_triples

    folder = tmp_path_factory.mktemp("slice") / "store"
    assert load_triples(SLICE, folder) == 441_769
    return folder


@pytest.fixture(scope="session")
def slice_asked(slice_store: Path) -> Any:
    """All that a run asks of the slice."""
    from worlds import ask, connect

    with connect({"namespace": "wikidata"}, slice_store) as source:
        return ask(source, "wikidata")


@pytest.fixture(scope="session")
def slice_mined(slice_asked: Any) -> Any:
    """The slice, mined as a run mines it."""
    from worlds import mine

    return mine(slice_asked)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, at the times that recorded logs have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fake programs of SLURM that are found first, on machines with and without it."""
    from fake_slurm import FakeSlurm

    slurm = FakeSlurm(tmp_path / "fake")
    monkeypatch.setenv("PATH", f"{slurm.folder}:/usr/bin:/bin")
    return slurm


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project to break in one place at a time."""
    from small_project import write_project

    return write_project(tmp_path)


@pytest.fixture
def graph() -> Any:
    """Instances, scores and context of 24 hand-made families."""
    from families import graph_of

    return graph_of()


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """An endpoint of a small graph that fails as its `script` says; at first it does not."""
    from faulty import faulty, small_graph

    with faulty(lambda query: None, small_graph()) as server:
        yield server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub that this process takes for the real one."""
    from loopback import loopback_hub

    monkeypatch.setattr("aftershock.lm.files.hub.PAUSE_SECONDS", 0.0)
    with loopback_hub() as served:
        served.stand_in(monkeypatch)
        yield served


@pytest.fixture
def python() -> Callable[..., subprocess.Popen]:
    """Start a new interpreter that runs some code with the package at hand."""

    def start(code: str, **options: Any) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "workflow")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.fixture
def call(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable:
    """Call the command in an empty folder: exit status, standard output and error."""
    from aftershock.command.app import main

    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code or 0, *capsys.readouterr()

    return called
