"""The benchmark runs to its end on a stand-in model, and its numbers are what they are called."""

import json
import re

import pandas as pd
import pytest
import torch

from aftershock.editors.previous_keys import SHARE
from aftershock.lm.products import Linear
from benchmarks import gpu_check, knowledge, many_deltas, models, paper, scale, sequences, turns
from benchmarks.bench import main
from benchmarks.measure import Clock, cost, product_seconds
from benchmarks.plain import Plain
from benchmarks.tasks import EDITS, SCORES, difference, task
from tiers import repeated


@pytest.fixture(scope="module")
def lm():
    return models.build(models.SIZES["stub"])


@pytest.mark.parametrize("precisions", [("strict",), repeated(("strict", "bf16"))])
def test_every_method_is_measured_and_the_paper_is_projected(tmp_path, capsys, precisions):
    options = ["--models", "stub", "--quick", "--batches", "1,3", "--out", str(tmp_path), "--project"]
    assert main([*options, "--precision", ",".join(precisions)]) == 0
    out = capsys.readouterr().out
    (table,) = [pd.read_csv(path) for path in tmp_path.glob("*.csv")]
    rows = table[table["B"].notna()]
    assert set(rows["method"]) == {*EDITS, *SCORES}
    assert len(rows) == len(precisions) * 2 * len({*EDITS, *SCORES})
    for column in ("plain_per_s", "engine_per_s", "ratio", "plain_mib", "engine_mib", "engine_tflops"):
        assert (rows[column] > 0).all(), column
    strict = rows[rows["precision"] == "strict"]
    assert strict["max_dlogp"].max() < 1e-4
    assert strict["max_dw"].max() < 1e-3  # NaN where nothing is edited
    (found,) = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    training = found["training"]
    assert training["share"] == pytest.approx(training["step_gflops"] / training["product_gflops"])
    assert training["steps_per_s"] > 0
    assert "GFLOP/s of a float32 product" in out
    parts = {row["part"] for row in found["paper"]}
    assert {"ft: 28500 edits", "mle: 19600 targets", "mend: 63600 scorings", "training: 100000"} <= parts
    assert {"verification: 24000 scorings", "moments: 12800", "all"} <= parts
    assert all(precision in out for precision in precisions)
    assert torch.__version__ in out


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--methods", "rome,memitt"])
    assert "unknown: memitt; known: ft, rome, memit, mend, score-1, score-5" in capsys.readouterr().err


def test_both_paths_make_the_same_edits_with_the_same_updates(lm):
    for method in EDITS:
        work = task(lm, models.SIZES["stub"], method, 2, 3)
        before = {name: value.clone() for name, value in lm.model.state_dict().items()}
        one, many = work.by_plain(1, Clock("cpu")), work.by_engine([1], Clock("cpu"))
        dw, dp = difference(one, many)
        assert one.updates == [{"ft": 3, "mend": 1}.get(method, 2)]
        assert dw < 1e-4, method
        assert dp < 1e-5, method
        assert all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())
        many.updates[0] += 1
        with pytest.raises(RuntimeError, match="updates"):
            difference(one, many)


def test_the_plain_path_has_the_same_weights_and_the_published_activation(lm):
    same = models.as_published(lm)
    theirs = dict(lm.model.named_parameters())
    assert all(p is theirs[name] for name, p in same.model.named_parameters())
    kinds = [{type(m).__name__ for m in x.model.modules() if "GELU" in type(m).__name__} for x in (lm, same)]
    assert kinds == [{"GELU"}, {"NewGELUActivation"}]
    ids, mask = lm.pad(lm.encode(["bada kilo"]))
    assert torch.allclose(lm.run(ids, mask), same.run(ids, mask), atol=1e-6)


def test_scores_are_of_edited_states(lm):
    work = task(lm, models.SIZES["stub"], "score-5", 2, None)
    one, many = work.by_plain(1, Clock("cpu")), work.by_engine([1], Clock("cpu"))
    assert len(one.logprobs[0]) == len(many.logprobs[0]) > 55
    assert difference(one, many)[1] < 1e-4
    unedited = Plain(lm).score(*work.asked[1])
    flat = [x for row in unedited for tokens in row for x in tokens]
    assert max(abs(a - b) for a, b in zip(flat, one.logprobs[0], strict=True)) > 1e-3


def test_memory_and_products_of_a_known_computation():
    def run():
        a = torch.ones(256, 256)
        b = a @ a
        del a
        c = b + 1
        return c.sum()

    found = cost("cpu", run)
    assert 2 * 256 * 256 * 4 <= found.peak_bytes < 2 * 256 * 256 * 4 + 4096  # two matrices at a time
    assert found.flops == 2 * 256**3


def test_products_by_another_library_are_products_too():
    module = Linear(torch.nn.Linear(1024, 2048)).requires_grad_(False)
    rows = torch.ones(8, 1024)
    assert cost("cpu", lambda: module(rows)).flops == 2 * 8 * 1024 * 2048
    assert product_seconds("cpu", lambda: module(rows), [module.weight]) > 0


def test_a_clock_can_pause():
    clock = Clock("cpu")
    clock.start()
    clock.stop()
    kept = clock.total
    sum(range(300_000))
    clock.start()
    clock.stop()
    assert clock.total - kept < 1e-3


def test_hours_are_counts_over_rates():
    row = {"model": "m", "precision": "strict", "method": "rome", "B": 1, "steps": 5}
    slow = row | {"engine_per_s": 2.0, "plain_per_s": 1.0}
    fast = row | {"B": 8, "engine_per_s": 4.0, "plain_per_s": 1.0}
    training = {"model": "m", "precision": "strict", "what": "training", "rate": 100.0, "number": 3600}
    hours = paper.project(pd.DataFrame([slow, fast, training])).set_index("part")
    # four times as many steps as measured, at the faster batch size
    assert hours.loc["rome: 28500 edits", "engine"] == pytest.approx(28_500 * 4 / 4.0 / 3600)
    assert hours.loc["rome: 28500 edits", "plain"] == pytest.approx(28_500 * 4 / 1.0 / 3600)
    assert hours.loc["training: 3600", "engine"] == pytest.approx(36 / 3600)
    assert hours.loc["all", "engine"] == pytest.approx(hours["engine"].iloc[:-1].sum())


@pytest.mark.thorough
def test_the_way_from_observations_to_tables_is_measured(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scale, "SHARES", {"reverse": 1, "round_easy": 1})
    monkeypatch.setattr(scale, "METHODS", ("ft", "rome"))
    monkeypatch.setattr("sys.argv", ["scale.py", str(folder), "--cases", "24", "--roles", "few"])
    scale.make(folder, 24, few=True)
    scale.main()
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["processes"] == 4
    assert found["tables"]["processes"] == 1
    assert found["all"]["cpu_seconds"] == found["score"]["cpu_seconds"] + found["tables"]["cpu_seconds"] > 0
    assert 50 < found["all"]["peak_mib"] < 3000
    rows = found["rows"]
    assert rows["cases"] == 24
    assert rows["observations"] > 24 * 2 * 50
    assert rows["scores"] > 24 * 2 * 80
    assert min(rows[name] for name in ("summary", "comparisons", "claims", "table1", "table2")) > 0
    assert (folder / "tables" / "table1.tex").is_file()


def test_asking_is_compared_with_a_direct_call_of_the_same_questions(capsys):
    options = ["--model", "stub", "--facts", "40", "--candidates", "3", "--rounds", "1"]
    assert knowledge.main(options) == 0
    out = capsys.readouterr().out
    assert re.search(r"40 facts, \d+ prompts, (\d+) \(prompt, target\) pairs", out)
    assert float(re.search(r"ratio ([\d.]+)", out)[1]) > 0
    assert knowledge.main([*options, "--memory"]) == 0
    found = re.search(r"(\d+) MiB before, (\d+) MiB at most", capsys.readouterr().out)
    assert int(found[2]) >= int(found[1]) > 0


def test_many_deltas_and_one_say_the_same(capsys):
    table = many_deltas.main(["--models", "stub", "--cases", "1,3", "--rounds", "1", "--edits", "40"])
    assert table["cases"].tolist() == [1, 3]
    assert table["max_dlogp"].max() < 1e-4
    assert ((table["many_ms"] / table["one_ms"] - table["ratio"]).abs() < 1e-9).all()
    assert "stub 3x16" in capsys.readouterr().out


def test_turns_of_edits_are_counted_and_both_solves_agree(capsys):
    options = ["--models", "stub,stub-llama", "--turns", "2", "--edits", "12", "--widths", "60x20,300x40"]
    solved, made = turns.main(options)
    assert solved["difference"].max() < 1e-9
    assert ((solved["primal_s"] / solved["dual_s"] - solved["ratio"]).abs() < 1e-9).all()
    assert made["edits"].tolist() == [24, 24]
    assert (made["edits_per_s"] > 0).all()
    assert "stub-llama 3x16" in capsys.readouterr().out


@pytest.mark.parametrize("methods", ["alphaedit", repeated("memit,encore,alphaedit")])
def test_sequences_of_edits_and_both_forms_of_alphaedit_are_measured(capsys, methods):
    options = ["--model", "stub", "--edits", "12", "--batches", "1,4", "--width", "64", "--rounds", "1"]
    made, forms = sequences.main([*options, "--methods", methods])
    assert made["batch"].tolist() == [1, 4] * len(methods.split(","))
    assert (made["per_minute"] > 0).all()
    # of each of two layers a matrix and some keys
    assert (made["memory_mib"] < 2 * (64 + 64 / SHARE) * 64 * 8 / 2**20 + 1e-9).all()
    assert forms["known"].tolist() == [0, 2, 32]
    assert (forms["difference"] < 1e-4).all()
    assert ((forms["released_s"] / forms["reduced_s"] - forms["ratio"]).abs() < 1e-9).all()
    assert "stub 3x16" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_gpu_check_goes_on_after_a_failure_and_stops_in_time(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "SMALL", ("stub-llama",))
    monkeypatch.setattr(gpu_check, "QUICK", {"stub": 2})
    monkeypatch.setattr(gpu_check, "METHODS", ("rome", "memit", "score-5"))
    real = gpu_check.task

    def failing(lm, size, method, *rest):
        if method == "memit":
            raise RuntimeError("broken on purpose")
        return real(lm, size, method, *rest)

    monkeypatch.setattr(gpu_check, "task", failing)
    options = ["--device", "cpu", "--quick", "--out", str(tmp_path)]
    assert gpu_check.main(options) == 1  # what failed was a comparison
    (path,) = tmp_path.glob("*.csv")
    rows = pd.read_csv(path)
    broken = rows["method"] == "memit"
    assert rows.loc[broken, "found"].eq("RuntimeError: broken on purpose").all()
    assert rows.loc[~broken & (rows["part"] == "equality"), "ok"].astype(str).eq("True").all()
    speeds = rows[rows["part"] == "speed"]
    assert len(speeds) == 2 * 3
    assert (speeds[["cases_per_s", "tflops", "peak_gib"]] > 0).all(axis=None)
    assert "written:" in capsys.readouterr().out
    assert gpu_check.main([*options[:-1], str(tmp_path / "late"), "--minutes", "0"]) == 1
    (path,) = (tmp_path / "late").glob("*.csv")
    assert pd.read_csv(path)["found"].eq("left out: no time").all()


def test_cases_are_halved_until_they_fit(lm):
    work = task(lm, models.SIZES["stub"], "rome", 8, 2)
    edit, asked = work.by_engine, []

    def small(cases, clock, ask=True):
        asked.append(len(cases))
        if len(cases) > 2:
            raise MemoryError
        return edit(cases, clock, ask)

    work.by_engine = small
    kept = []
    found = gpu_check.speed(work, 8, "cpu", kept)
    assert found["B"] == 2
    assert asked == [8, 4, 2, 2]
    assert len(kept[0].logprobs) == 2
