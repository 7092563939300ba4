"""When the results of two runs count as equal."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from aftershock.provenance import equality
from aftershock.provenance.equality import Comparison, compare_folders, compare_tables
from aftershock.tables import Table
from aftershock.tables.abilities import CURVES
from aftershock.tables.models import FACT_ANSWERS
from aftershock.tables.report import RANKS
from aftershock.tables.runs import OBSERVATIONS, PROBABILITIES, SCORES, TELEMETRY
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS


def observed(cases: range = range(5)) -> pd.DataFrame:
    """Two tokens of each target; the second is said with probability 0.49995, 0.4, 0.4, 0.4, 0.6, ..."""
    rows = []
    for case in cases:
        tokens = np.log([0.9, 0.49995 if case == 0 else 0.4 if case < 4 else 0.6])
        rows.append((case, "1", 0, 0, tokens.sum(), 2, tokens, True, 2, "Rome"))
    return pd.DataFrame(rows, columns=list(OBSERVATIONS.columns))


def changed(rows: pd.DataFrame, row: int, **values: object) -> pd.DataFrame:
    """A copy in which one row has other values."""
    rows = rows.astype(dict.fromkeys(values, object))
    for column, value in values.items():
        rows.at[row, column] = value
    return rows


def compare(*frames: pd.DataFrame, table: Table = OBSERVATIONS) -> Comparison:
    """The comparison of two frames with columns of `table`, which need not be sound."""
    rows = []
    for frame in frames:
        kinds = {field.name: field.type for field in table.schema if field.name in frame}
        rows.append(pa.table({name: pa.array(frame[name].tolist(), kind) for name, kind in kinds.items()}))
    return compare_tables(*rows, table.key, table.name)


def verdict(a: pd.DataFrame, b: pd.DataFrame, table: Table = OBSERVATIONS) -> str:
    return compare(a, b, table=table).verdict


def test_the_order_of_rows_does_not_count() -> None:
    rows = observed()
    assert verdict(rows, rows[::-1]) == "identical"


TOKENS = np.log([0.9, 0.4])
HERE = "case_id 1, state 1, probe_id 0, prompt_id 0: "


@pytest.mark.parametrize(
    ("row", "values", "wanted", "said"),
    [
        (1, {"logprob": TOKENS.sum() + 1e-9}, "equal", "(logprob by up to 1e-09)"),
        (1, {"logprob": TOKENS.sum() + 9e-4}, "equal", "(logprob by up to 0.0009)"),
        (1, {"logprob": TOKENS.sum() + 1.1e-3}, "different", f"{HERE}logprob is -1.02165 and -1.02055"),
        (1, {"token_logprobs": TOKENS + [0, 9e-4]}, "equal", "(token_logprobs by up to 0.0009)"),
        (1, {"token_logprobs": TOKENS + [0, 1.1e-3]}, "different", f"{HERE}token_logprobs is "),
        # p = 0.49995: the likeliest token has at most 0.50005, so it is ahead by at most 2e-4
        (0, {"argmax_match": False}, "equal", "argmax_match is True and False (margin at most 0.0002)"),
        (0, {"tokens_matched": 1}, "equal", "tokens_matched is 2 and 1 (margin at most 0.0002)"),
        # p = 0.4: at most log(0.6 / 0.4), which says nothing
        (1, {"argmax_match": False}, "undecided", "(margin at most 0.41)"),
        (1, {"continuation": "Paris"}, "undecided", "'Rome' and 'Paris' (the margin is not in the table)"),
        # p > 0.5
        (4, {"argmax_match": False}, "different", "every token has more than half the probability"),
        (1, {"continuation": None}, "different", "continuation is 'Rome' and None"),
        (1, {"logprob": np.nan}, "different", "logprob is -1.02165 and nan"),
        (1, {"token_logprobs": np.zeros(3)}, "different", "[-0.105361, -0.916291] and [0, 0, 0]"),
        (1, {"n_tokens": 1}, "different", "n_tokens is 2 and 1"),
    ],
)
def test_what_differs_in_one_row(row: int, values: dict, wanted: str, said: str) -> None:
    """A log-probability may be off by less than a thousandth, and decisions by their margin."""
    rows = observed()
    found = compare(rows, changed(rows, row, **values))
    assert (found.verdict, said in str(found)) == (wanted, True), found


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_log_probabilities_of_a_broken_model_equal_themselves(value: float) -> None:
    rows = changed(observed(), 2, logprob=value, token_logprobs=np.array([-1.0, value]))
    assert verdict(rows, rows.copy()) == "identical"
    assert verdict(rows, changed(rows, 1, logprob=rows.loc[1, "logprob"] + 1e-9)) == "equal"
    assert verdict(rows, changed(rows, 2, token_logprobs=np.array([-1.0, -2.0]))) == "different"


def test_a_missing_a_surplus_and_a_repeated_key_are_named() -> None:
    rows = observed()
    found = compare(rows.drop(index=1), rows.drop(index=3))
    assert found.lines == [
        ("different", "only in the first: case_id 3, state 1, probe_id 0, prompt_id 0"),
        ("different", "only in the second: case_id 1, state 1, probe_id 0, prompt_id 0"),
    ]
    twice = compare(rows, pd.concat([rows, rows[:1]]))
    assert twice.lines == [("different", "only in the second: case_id 0, state 1, probe_id 0, prompt_id 0")]
    assert verdict(rows, rows.drop(columns="continuation")) == "different"


def test_probabilities_and_scores_may_be_off_by_what_follows() -> None:
    columns = {name: [0] if kind == "int64" else ["a"] for name, kind in PROBABILITIES.columns.items()}
    floats = [name for name, kind in PROBABILITIES.columns.items() if kind.startswith("float64")]
    row = pd.DataFrame({**columns, **dict.fromkeys(floats, [1e-6]), "exact": [True], "generated": [True]})
    near, far = (changed(row, 0, probability=1e-6 * (1 + off)) for off in (9e-4, 2e-3))
    assert [verdict(row, other, PROBABILITIES) for other in (near, far)] == ["equal", "different"]
    scores = pd.DataFrame({"case_id": [0, 1], "metric": "conflict_magnitude", "value": [-9.0, np.nan]})
    near, far = (changed(scores, 0, value=-9 - off) for off in (0.019, 0.021))  # 2e-3 (1 + 9)
    assert [verdict(scores, other, SCORES) for other in (near, far)] == ["equal", "different"]
    assert verdict(changed(scores, 0, value=np.inf), scores, SCORES) == "different"
    assert verdict(*[changed(scores, 0, value=np.inf)] * 2, SCORES) == "identical"


def write(folder: Path, shards: list[range], rows: pd.DataFrame, telemetry: pd.DataFrame) -> None:
    """A run's files, cut into `shards`."""
    run = folder / "world/tiny/coverage/rome/s0"
    for cases in shards:
        name = f"{cases.start:05d}-{cases.stop - 1:05d}.parquet"
        mine = rows["case_id"].isin(cases)
        OBSERVATIONS.write(rows[mine], run / "observations" / name, {"shard": name})
        TELEMETRY.write(telemetry[telemetry["case_id"].isin(cases)], run / "telemetry" / name)


@pytest.fixture
def telemetry() -> pd.DataFrame:
    return pd.DataFrame(
        {"case_id": range(7), "state": "1", "steps": 5, "loss": 0.5, "delta_norm": 2.0, "reason": None}
    )


def test_runs_that_are_cut_differently_are_equal(tmp_path: Path, telemetry: pd.DataFrame) -> None:
    rows = observed(range(7))
    write(tmp_path / "one", [range(7)], rows, telemetry)
    write(tmp_path / "seven", [range(n, n + 1) for n in range(7)], rows, telemetry)
    report = compare_folders(tmp_path / "one", tmp_path / "seven")
    assert (report.equal, str(report), len(report)) == (True, "2 identical", 2)
    for folder in ("one", "seven"):  # a table made of parts, beside them, is another one
        path = tmp_path / folder / "world/tiny/coverage/rome/s0/telemetry.parquet"
        TELEMETRY.write(telemetry, path, {"run": folder})
    assert str(compare_folders(tmp_path / "one", tmp_path / "seven")) == "3 identical"
    off = changed(rows, 5, logprob=rows.loc[5, "logprob"] + 0.1)
    write(tmp_path / "seven", [range(5, 6)], off, telemetry)
    report = compare_folders(tmp_path / "one", tmp_path / "seven")
    assert not report.equal
    assert "different: world/tiny/coverage/rome/s0/observations/*.parquet (logprob by up to" in str(report)
    assert "case_id 5" in str(report)
    (tmp_path / "seven/world/tiny/coverage/rome/s0/observations/00003-00003.parquet").unlink()
    report = compare_folders(tmp_path / "one", tmp_path / "seven")
    assert "only in the first: case_id 3" in str(report)


def test_answers_in_parts_are_one_table(tmp_path: Path) -> None:
    columns = {name: ["a", "b"] for name in FACT_ANSWERS.columns}
    rows = pd.DataFrame({**columns, "said": True, "probability": 0.5, "rank": 1, "candidates": 9})
    FACT_ANSWERS.write(rows, tmp_path / "one/answers/facts.1-of-1.parquet")
    for i in (0, 1):
        FACT_ANSWERS.write(rows[i : i + 1], tmp_path / f"two/answers/facts.{i + 1}-of-2.parquet")
    report = compare_folders(tmp_path / "one", tmp_path / "two")
    assert [part.verdict for part in report] == ["identical"]


def test_lists_of_texts_and_of_decisions_are_compared() -> None:
    row = {"checkpoint": 1, "item_id": "a", "logprobs": [-1.0, -2.0], "n_tokens": [1.0, 2.0]}
    rows = pd.DataFrame([{**row, "greedy": [True, False], "text": None, "finished": None, "truncated": 0}])
    assert verdict(rows, changed(rows, 0, logprobs=[-1.0, -2.0005]), TASK_OUTPUTS) == "equal"
    assert verdict(rows, changed(rows, 0, n_tokens=[1.0, 3.0]), TASK_OUTPUTS) == "different"
    assert verdict(rows, changed(rows, 0, greedy=[False, False]), TASK_OUTPUTS) == "undecided"
    items = pd.DataFrame([{"item_id": "a", "group": None, "gold": 0, "answers": [], "choices": ["x", "y"]}])
    assert verdict(items, changed(items, 0, choices=["x", "z"]), TASK_ITEMS) == "different"


def test_rows_that_hold_times_do_not_count() -> None:
    place = dict.fromkeys(("model", "plan", "editor", "order", "age"), "a")
    rows = pd.DataFrame(
        [place | {"measure": m, "checkpoint": 1, "value": 1.0} for m in ("survival", "seconds")]
    )
    slower = rows.assign(value=rows["value"].where(rows["measure"] != "seconds", 9.0))
    assert verdict(rows, slower, CURVES) == "identical"
    worse = rows.assign(value=rows["value"].where(rows["measure"] != "survival", 9.0))
    assert verdict(rows, worse, CURVES) == "different"
    ranks = pd.DataFrame([{"question": q, "value": 1.0} for q in ("write", "cost")])
    ranks = ranks.assign(model="m", place="coverage", editor="rome")
    assert verdict(ranks, ranks.assign(value=[1.0, 2.0]), RANKS) == "identical"
    assert verdict(ranks, ranks.assign(value=[2.0, 1.0]), RANKS) == "different"


def test_tensors(tmp_path: Path) -> None:
    c = np.eye(3, dtype=np.float32)
    for folder, off in (("one", 0), ("near", 1e-5), ("far", 1e-2)):
        for name in ("moments", "model"):
            (tmp_path / folder).mkdir(exist_ok=True)
            about = {"text_sha256": "abc", "smallest.3": str(off)}
            save_file({"3": c + np.float32(off)}, tmp_path / folder / f"{name}.safetensors", about)
    shutil.copytree(tmp_path / "one", tmp_path / "same")
    for folder, expected in (
        ("same", {"moments": "identical", "model": "identical"}),
        ("near", {"moments": "equal", "model": "different"}),
        ("far", {"moments": "different", "model": "different"}),
    ):
        report = compare_folders(tmp_path / "one", tmp_path / folder)
        assert {Path(part.name).stem: part.verdict for part in report} == expected
    save_file({"3": c[:2]}, tmp_path / "same/moments.safetensors")
    assert "(3, 3)" in str(compare_folders(tmp_path / "one", tmp_path / "same"))


def test_a_file_that_cannot_be_read_and_one_that_is_missing_are_differences(tmp_path, telemetry):
    for folder in ("one", "two"):
        write(tmp_path / folder, [range(7)], observed(range(7)), telemetry)
    path = tmp_path / "two/world/tiny/coverage/rome/s0/observations/00000-00006.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in str(compare_folders(tmp_path / "one", tmp_path / "two"))
    path.unlink()
    assert "only in the first folder" in str(compare_folders(tmp_path / "one", tmp_path / "two"))
    with pytest.raises(ValueError, match="no tables to compare"):
        compare_folders(tmp_path / "none", tmp_path / "nil")


def test_the_program_says_what_differs(
    tmp_path: Path, telemetry: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    write(tmp_path / "one", [range(7)], observed(range(7)), telemetry)
    monkeypatch.setattr("sys.argv", ["equality", str(tmp_path / "one"), str(tmp_path / "one")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(equality.__file__, run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == "2 identical\n"
