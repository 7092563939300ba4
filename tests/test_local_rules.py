"""Rules that run where Snakemake runs, and those that are submitted."""

import ast
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from snakemake.api import SnakemakeApi
from snakemake.rules import Rule
from snakemake.settings.types import ResourceSettings

from test_imports import imports

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
HEAVY = {"load_dump", "take_moments"}  # without a model, and yet hours or much memory at a study's size
ASKS_A_NETWORK = {"huggingface_hub", "httpx2", "openai", "requests", "SPARQLWrapper", "http", "urllib"}


@pytest.fixture(scope="module")
def rules() -> Iterator[dict[str, tuple[Rule, bool]]]:
    """Every rule that does something, and whether it is local."""
    with patch.dict(os.environ), SnakemakeApi() as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=ROOT / "Snakefile")._workflow
        yield {rule.name: (rule, rule.name in workflow._localrules) for rule in workflow.rules if rule.script}


def reaches(names: Iterable[str]) -> set[str]:
    """Return all that a script imports, directly or through our modules, that imports `names`."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            for file in (ROOT / "workflow" / name.replace(".", "/")).with_suffix(".py"), *_of_package(name):
                waiting += imports(file) if file.is_file() else []
            waiting += [name.rpartition(".")[0]] if name.startswith("aftershock.") else []
    return found


def _of_package(name: str) -> list[Path]:
    return [ROOT / "workflow" / name.replace(".", "/") / "__init__.py"] if "aftershock" in name else []


def may_ask(rule: Rule) -> set[str]:
    """The libraries that reach a network among all that a rule's script imports."""
    named = reaches(imports(SCRIPTS / Path(str(rule.script)).name))
    return {name.split(".")[0] for name in named if name != "urllib.parse"} & ASKS_A_NETWORK


def test_what_may_ask_a_network_is_local(rules: dict[str, tuple[Rule, bool]]) -> None:
    asking = {name for name, (rule, _) in rules.items() if may_ask(rule)}
    assert {"fetch_model", "fetch_text", "fetch_encoder", "fetch_classifier"} <= asking
    assert {"ask_paraphrases", "sample_facts", "mine_combinations", "mine_labels", "mine_living"} <= asking
    assert [name for name in asking if not rules[name][1]] == []


def test_the_rest_is_local_unless_it_computes_with_tensors_or_is_heavy(
    rules: dict[str, tuple[Rule, bool]],
) -> None:
    light = {
        name
        for name, (rule, _) in rules.items()
        if str(rule.conda_env).endswith(("tables.yaml", "atlas.yaml")) and name not in HEAVY
    }
    fetching = {name for name in rules if name.startswith("fetch_")}
    assert {name for name, (_, local) in rules.items() if local} == light | fetching
    assert set(rules) >= HEAVY


def test_what_is_submitted_asks_for_a_gpu_or_is_heavy(rules: dict[str, tuple[Rule, bool]]) -> None:
    submitted = {name for name, (_, local) in rules.items() if not local}
    assert submitted == HEAVY | {name for name, (rule, _) in rules.items() if "gpu" in rule.resources}


def test_a_local_rule_loads_no_model(rules: dict[str, tuple[Rule, bool]]) -> None:
    for name, (rule, local) in rules.items():
        if local:
            tree = ast.parse((SCRIPTS / Path(str(rule.script)).name).read_text(encoding="utf-8"))
            calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
            assert "LanguageModel.load" not in calls, name
