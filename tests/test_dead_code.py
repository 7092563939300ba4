"""No name of the project stands unused."""

import re
from pathlib import Path

import pytest
from vulture import Vulture

pytestmark = pytest.mark.lint
ROOT = Path(__file__).parents[1]
USED_BY = {
    "ast": ["annotation", "returns", "visit_*"],
    "html.parser": ["handle_data", "handle_*tag"],
    "http.server and socketserver": [
        *("close_connection", "client_address", "daemon_threads", "do_*", "handle_error", "log_message"),
        *("protocol_version", "RequestHandlerClass", "timeout"),
    ],
    "io and tempfile": ["readable", "readinto", "tempdir"],
    "lm-evaluation-harness": [
        *("aggregation", "construct_requests", "doc_to_*", "download", "eot_token_id", "fewshot_context"),
        *("generate_until", "has_*_docs", "higher_is_better", "loglikelihood*", "_loglikelihood_tokens"),
        *("disable_tqdm", "process_results", "test_docs", "tok_encode", "VERSION"),
    ],
    "mkdocs and griffe": ["on_files", "on_instance"],
    "Python": ["__dir__", "__getattr__"],
    "pytest and xdist": ["_split_scope", "loadscopereorder", "pytestmark", "pytest_*"],
    "Snakemake and its plugins": [*("is_query_tool_available", "remove_existing_output")],
    "torch, transformers, tokenizers": [
        *("closure", "encode_special_tokens", "fill_uninitialized_memory", "get_seq_length", "kwargs"),
        *("num_labels", "post_processor", "unk_token"),
    ],
}


def used_by_rules() -> set[str]:
    """Names of the package that the Snakefile and the .smk files import, and methods that they name."""
    found = set()
    for file in [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").rglob("*.smk"))]:
        text = file.read_text(encoding="utf-8")
        for listed in re.findall(r"^\s*from aftershock[\w.]* import (\([^)]*\)|.*)$", text, flags=re.M):
            found |= set(re.findall(r"\w+", listed))
        found |= set(re.findall(r"\.(\w+)\(", text))
        found |= set(re.findall(r'gpu_job\("(\w+)"\)', text))  # of `budget.cost.Costs`
        found |= set(re.findall(r"^use rule \w+ as (\w+)", text, flags=re.M))  # rules like another
    return found


def named_in_data() -> set[str]:
    """Names that the package, methods of the tests and tasks' files look up as "module:name"."""
    found = set()
    folders = (ROOT / "workflow" / "aftershock", ROOT / "tests" / "methods")
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        found |= set(re.findall(r'"[\w.]*:(\w+)"', file.read_text(encoding="utf-8")))
    for file in (ROOT / "resources" / "tasks").glob("*.yaml"):
        found |= set(re.findall(r"^prepare: [\w.]+:(\w+)", file.read_text(encoding="utf-8"), flags=re.M))
    return found


def dead(*folders: Path) -> list[str]:
    """Return the names that nothing uses, a line each."""
    vulture = Vulture(
        ignore_names=[name for names in USED_BY.values() for name in names],
        ignore_decorators=["@app.*", "@pytest.fixture*"],
    )
    vulture.scavenge([str(folder) for folder in folders])
    vulture.scan("\n".join(f"_.{name}" for name in sorted(used_by_rules() | named_in_data())))
    return [
        f"{item.filename}:{item.first_lineno}: unused {item.typ} {item.name}"
        for item in vulture.get_unused_code(min_confidence=60)
    ]


def test_nothing_is_dead() -> None:
    assert dead(ROOT / "workflow", ROOT / "tests", ROOT / "benchmarks") == []


def test_a_dead_name_is_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("LEFT = 1\n\n\ndef used() -> None: ...\n\n\nused()\n", encoding="utf-8")
    assert dead(tmp_path) == [f"{file}:1: unused variable LEFT"]
