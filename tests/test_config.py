"""Bad configurations: every error is found before a job starts, with its place and what was meant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from aftershock.config import check_config, merged_settings
from aftershock.datasets.table import DATASETS
from aftershock.schema import faults, fill_defaults, number_hint, read_schema
from small_project import CONFIG, MODEL, errors

ROOT = Path(__file__).parents[1]
TOY = "resources/toy.yaml"
NTRIPLES = {"source": "ntriples", "file": TOY}


@pytest.mark.parametrize(
    ("source", "lacks"),
    [
        *((source, "file") for source in ("ntriples", "dump", "generated")),
        ("endpoint", "url"),
        ("released", "folder"),
    ],
)
def test_a_graph_that_nothing_reads_is_not_asked_where_it_is(project, source, lacks):
    graphs = yaml.safe_load(CONFIG)["kgs"] | {"other": {"source": source, "namespace": "world"}}
    check_config({**yaml.safe_load(CONFIG), "kgs": graphs}, project)
    untrained = {"kgs": graphs, "mend": {"kg": "other"}}  # by which no editor is trained
    check_config({**yaml.safe_load(CONFIG), **untrained}, project)
    trained = {"mend": {"method": "mend"}}
    found = errors(project, kgs=graphs, mend={"kg": "other"}, editors=trained)
    assert f"kgs.other.{lacks}: missing" in "\n".join(found)
    assert f"kgs.other.{lacks}: missing" in "\n".join(errors(project, kgs=graphs, kg="other"))


def test_defaults_are_filled_in_and_settings_merged_method_model_run(project: Path) -> None:
    config = yaml.safe_load(CONFIG)
    models = check_config(config, project)
    assert config["study"] is None
    assert config["seeds"] == [0]
    assert config["kgs"]["toy"]["seed"] == 0
    assert config["kgs"]["theirs"]["sample"] == 50
    assert config["editors"]["mle"]["settings"] == {}
    assert config["mining"]["max_facts"] == 1_000_000
    assert config["cases"]["quotas"]["dev"] == {}
    assert models["tiny"]["train"] == {"tokens": 1000, "seed": 0, "facts": None, "parts": 2}
    settings = merged_settings(config["editors"]["rome"], models["tiny"])
    assert (list(settings["layers"]), settings["lr"], settings["clamp"]) == ([1], 0.1, 4.0)


def test_all_errors_at_once_with_suggestions(project: Path) -> None:
    found = errors(
        project,
        mining={"max_fact": 3, "min_support": 0},
        kg="tory",
        models=["tinny"],
        datasets=["coverge"],
        editors={
            "a": {"method": "roem"},
            "b": {"method": "rome", "settings": {"layrs": [1], "lr": -1}},
            "c": {"methd": "rome"},
            "d": {"method": "ft", "tuned_as": "e"},
            "report": {"method": "ft"},
        },
        shards={"cases": 50},
        cases={"split": {"train": 0.5, "dev": 0.4, "test": 0.2}},
        surplus=1,
    )
    expected = [
        ("mining.max_fact: unknown key", "max_facts"),
        ("mining.min_support: found 0", "from 1"),
        ("kg: 'tory' is unknown", "toy"),
        ("models: 'tinny' has no file", "tiny"),
        ("datasets.0: 'coverge' is unknown", "coverage"),
        ("editors.a.method: unknown editing method 'roem'", "rome"),
        ("editors.b.settings.layrs: unknown setting", "layers"),
        ("editors.b.settings.lr: ", "greater than 0"),
        ("editors.c.method: missing", ""),
        ("editors.c.methd: unknown key", "method"),
        ("editors.d.tuned_as: 'e' is unknown", "known: a, b, d"),
        ("editors.report: 'report' is a reserved name", ""),
        ("shards.cases: found 50", "multiple of 32"),
        ("cases.split: ", "1.1"),
        ("surplus: unknown key", "known: abilities, cases"),
    ]
    for start, part in expected:
        assert [line for line in found if line.startswith(start) and part in line], (start, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    "name", ["kg", "models", "report", "logs", "cases", "mend", "abilities", "jobs", "sequences", "tasks"]
)
def test_reserved_names(project: Path, name: str) -> None:
    graphs = {name: {"source": "generated", "namespace": "world", "file": TOY}}
    found = errors(project, study=name, kgs=graphs)
    assert f"study: {name!r} is a reserved name" in "\n".join(found)
    assert f"kgs.{name}: {name!r} is a reserved name" in "\n".join(found)


@pytest.mark.parametrize("name", ["tables", "figures", "cases", "index.html", "summary.parquet"])
def test_a_study_is_not_called_like_a_part_of_the_report(project: Path, name: str) -> None:
    (found,) = errors(project, study=name)
    assert found.startswith(f"study: {name!r} is a reserved name, as are ")


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"source": "ntriples"}, "kgs.toy.file: missing"),
        ({"source": "ntriples", "file": "gone.nt"}, "kgs.toy.file: there is no 'gone.nt'"),
        ({"source": "dump"}, "kgs.toy.file: missing"),
        ({"source": "dump", "file": "gone.nt.bz2"}, "kgs.toy.file: there is no 'gone.nt.bz2'"),
        ({"source": "dump", "file": TOY}, f"kgs.toy.file: {TOY!r} is not named .nt or .nt.gz or .nt.bz2"),
        ({"source": "released", "folder": "gone"}, "kgs.toy.folder: there is no 'gone'"),
        (
            {"source": "endpoint", "url": "https://q"},
            "kgs.toy.contact: missing; a public service wants to know whom to write to. Give your mail or "
            "web address in a file of your own, named last on the command line: kgs: {toy: {contact: you@",
        ),
        ({"source": "generatd"}, "kgs.toy.source: 'generatd' is unknown; did you mean"),
        (NTRIPLES | {"sample": 3}, "kgs.toy.sample: unknown key; known: file, namespace, source"),
        (NTRIPLES | {"namespace": "wrld"}, "kgs.toy.namespace: 'wrld' is unknown; did you mean 'world'"),
    ],
)
def test_graphs(project: Path, graph: Mapping[str, Any], expected: str) -> None:
    found = errors(project, kgs={"toy": {"namespace": "world", **graph}})
    assert any(line.startswith(expected) for line in found)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (MODEL, "{", "resources/models/tiny.yaml is not YAML"),
        (MODEL, "[]", "resources/models/tiny.yaml: found []; expected A model"),
        (MODEL, f"{MODEL}train: {{}}\n", "models/tiny.yaml: train stands twice, in lines 4 and 7"),
        ("tokens:", "tokns:", "tiny.yaml: train.tokns: unknown key; did you mean 'tokens'"),
        ("kg: toy", "kg: toi", "tiny.yaml: kg: 'toi' is unknown; did you mean 'toy'"),
        ("kg: toy", "", "tiny.yaml: kg: missing"),
        ("kg: toy", "source: {hub: o/n, revision: a}", "tiny.yaml: exactly one of train or source is needed"),
        ("editors: {rome", "editors: {rom", "editors.rom: unknown editing method 'rom'; did you"),
        ("lr: 0.1", "lr: x", "tiny.yaml: editors.rome.lr: "),
        ("lr: [0.1, 0.5]", "lr: [-1]", "tiny.yaml: search.rome.lr: "),
        ("search: {rome: {layers", "search: {rome: {layer", "tiny.yaml: search.rome.layer: unk"),
        ("editors: {rome: {", "editors: {ft: {layers: 3}, rome: {", "tiny.yaml: editors.ft.layers: "),
        ("editors: {rome", "editors: {wise: {save_freq: 300}, rome", "merge_freq 1000 is no multiple of"),
    ],
)
def test_model_files(project: Path, old: str, new: str, expected: str) -> None:
    (project / "resources" / "models" / "tiny.yaml").write_text(MODEL.replace(old, new))
    assert any(expected in line for line in errors(project))


@pytest.mark.parametrize(
    ("sheet", "old", "new", "expected"),
    [
        ("rules", "R1>R1", "R1>R3", "relation 'R3'; known: R1, R2; describe it in relations.tsv, or remove"),
        ("rules", "R1>R1", "R1-R1", "rules.tsv row 2: rule: found 'R1-R1'; expected r1>r2"),
        ("rules", "keep", "kept", "rules.tsv row 2: status: 'kept' is unknown; did you mean 'keep'"),
        ("rules", "reason\n", "why\n", "rules.tsv: its columns are"),
        ("relations", "{} is married to", "is wed to", "relations.tsv row 2: prompt: found 'is wed to'"),
        ("relations", "{} is married to", "{} is married to ", "relations.tsv row 2: prompt: found"),
        ("relations", "\tspouse\t30\n", "\t30\n", "relations.tsv row 2: 10 cells, not 11"),
        ("relations", "\t30\n", "\t40\n", "relations.tsv row 2: approx_facts: found '40'"),
        ("relations", "world\tR2", "world\tR1", "relations.tsv: world R1 is there 2 times"),
        ("paraphrases", "yes, 3,", "yes, 4,", "paraphrases.tsv: world R1 {} said yes, 4, to is there 2"),
        (
            "paraphrases",
            "world\tR2\tNumber 9 of {} is\tkeep",
            "world\tR2\tNumber 9 of {} is\tdrop",
            "relation R2 of world has 9 paraphrases, not 10; keep more rows, or set a paraphrases.backend",
        ),
        ("paraphrases", "9 of {} is\tkeep", "9 of {} is\tkept", "paraphrases.tsv row 21: status: 'kept'"),
        ("paraphrases", "9 of {} is\tkeep", "9 of {} is \tkeep", "paraphrases.tsv row 21: template: found"),
        ("paraphrases", "Number 9 of {} is", "{} is a parent of", "relation R2 of world repeats its prompt"),
    ],
)
def test_sheets(project: Path, sheet: str, old: str, new: str, expected: str) -> None:
    file = project / "resources" / f"{sheet}.tsv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert any(expected in line for line in errors(project))


def test_the_configuration_that_ships_is_sound(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["models"] = [file.stem for file in (ROOT / "resources" / "models").glob("*.yaml")]
    (tmp_path / "facts.nt").touch()
    facts = {"source": "ntriples", "namespace": "wikidata", "file": str(tmp_path / "facts.nt")}
    config["kgs"]["wikidata"] = facts
    assert set(check_config(config, ROOT)) == set(config["models"])


def described(schema, root, place=""):
    """Every key that a schema allows, and whether it or what it refers to has a description."""
    for key, part in schema.get("properties", {}).items():
        target = root["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else {}
        if place or "source" not in key:
            yield f"{place}{key}", "description" in {**target, **part}
        yield from described(part, root, f"{place}{key}.")


def test_whole_numbers_may_be_written_with_an_exponent(project: Path) -> None:
    given = yaml.safe_load("{seeds: [0.0, 1.0e+1], mining: {max_facts: 1.0e+3, min_pca_confidence: 1.0}}")
    config = {**yaml.safe_load(CONFIG), **given}
    check_config(config, project)
    assert config["seeds"] == [0, 10]
    assert all(type(seed) is int for seed in config["seeds"])
    assert type(config["mining"]["max_facts"]) is int
    assert type(config["mining"]["min_pca_confidence"]) is float


@pytest.mark.parametrize("abilities", [{"tasks": "mmlu"}, 5])
def test_abilities_of_another_type_are_one_error(project: Path, abilities) -> None:
    plans = {"ten": {"edits": {"source": "graph"}, "checkpoints": [0, 1]}}
    assert any(line.startswith("abilities") for line in errors(project, abilities=abilities, sequences=plans))


@pytest.mark.parametrize("name", ["config", "model", "relations", "paraphrases", "rules"])
def test_schemas(name: str) -> None:
    schema = read_schema(name)
    Draft202012Validator.check_schema(schema)
    assert all(has for _, has in described(schema, schema))
    filled: dict[str, Any] = {}
    fill_defaults(filled, schema)
    assert not [fault for fault in faults(filled, schema) if fault.text != "missing" and fault.path]


def test_datasets_of_the_schema_are_those_that_are_built() -> None:
    schema = read_schema("config")
    assert tuple(schema["$defs"]["dataset"]["enum"]) == tuple(DATASETS)
    assert tuple(schema["$defs"]["quotas"]["properties"]) == tuple(DATASETS)


NOT_KEPT = (
    "is not kept by rules.tsv; mark it keep there, or leave it out; did you mean 'R1>R1'? (known: R1>R1)"
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mining": {"min_pca_confidence": "1e-2"}}, "YAML takes 1e-2 for text: write 1.0e-2"),
        ({"mining": {"min_pca_confidence": "1E5"}}, "YAML takes 1E5 for text: write 1.0e+5"),
        ({"mining": {"min_pca_confidence": "0.5"}}, "in quotes it is text: write 0.5"),
        ({"study": 2024}, "in quotes it is text: '2024'"),
        ({"study": True}, "in quotes it is text: 'True'"),
        ({"mining": {"rules": ["R1>R1", "R1>R2"]}}, f"mining.rules: 'R1>R2' {NOT_KEPT}"),
    ],
)
def test_a_value_that_cannot_be_taken_is_one_error_that_says_what_to_write(project: Path, changes, said: str):
    (line,) = errors(project, **changes)
    assert line.endswith(said)
    assert "another value" not in line


def test_numbers_as_the_hint_writes_them_are_numbers() -> None:
    for text in ("1e-2", "1E5", "-3e4", "2.5e7"):
        written = number_hint(text).rpartition(" ")[2]
        assert isinstance(yaml.safe_load(text), str)
        assert yaml.safe_load(written) == float(text)
    assert number_hint("one") == number_hint(3) == ""
