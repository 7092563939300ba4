"""Runs that ask a service for paraphrases: tables, a sheet to review, and no key anywhere."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import started
from aftershock.config import check_config
from aftershock.paraphrases.asking import Effort, ask_all, report
from aftershock.paraphrases.endpoint import Endpoint
from aftershock.paraphrases.kept import KeptAnswers
from aftershock.paraphrases.ranking import choose, suggestions
from aftershock.tables.graph import FACTS, PARAPHRASE_CANDIDATES, PARAPHRASE_REQUESTS, PARAPHRASES, PROMPTS
from chatty import (
    COLUMNS,
    KEY,
    PASSING,
    SPOUSE,
    Handler,
    Step,
    chatty,
    completion,
    listing,
    scripted,
    wordings,
)

ROOT = Path(__file__).parents[1]


def asked(folder, *steps, relation=SPOUSE, **effort):
    """The tables of one relation, the service that was asked, and what is said about it."""
    with chatty(scripted(*steps)) as service:
        answers = KeptAnswers(Endpoint(service.address, "m", key=None), folder)
        prices = {"input": 2.0, "output": 10.0}
        requests, candidates = ask_all([relation], answers, Effort(**effort), COLUMNS, prices)
    PARAPHRASE_REQUESTS.check(requests)
    PARAPHRASE_CANDIDATES.check(candidates)
    return requests, candidates, service, report(requests, candidates, answers)


def test_one_good_answer_is_enough(tmp_path: Path) -> None:
    requests, candidates, _, said = asked(tmp_path)
    (row,) = requests.to_dict("records")
    assert (row["asked"], row["returned"], row["kept"], row["problem"]) == (20, 20, 20, None)
    assert row["cost"] == pytest.approx((200 * 2 + 300 * 10) / 1e6)
    assert (row["model_returned"], row["request_id"], row["seed"]) == ("m-2026-05-01", "req-1", 0)
    assert candidates["template"].tolist() == wordings(20)
    assert "1 requests, 1 of them sent now" in said
    assert "20 candidates, 20 of them good" in said


def test_missing_texts_are_asked_for_a_bounded_number_of_times(tmp_path: Path) -> None:
    steps = [listing(wordings(8)), listing(wordings(7, 8)), listing(wordings(2, 15))]
    requests, candidates, service, _ = asked(tmp_path, *steps)
    assert requests["asked"].tolist() == [20, 12, 5]
    assert requests["returned"].tolist() == [8, 7, 2]
    assert requests["problem"].tolist() == ["8 of 20 texts", "7 of 12 texts", "2 of 5 texts"]
    assert candidates["template"].tolist() == wordings(17)
    for text in wordings(8):
        assert text not in service.asked[0]["messages"][1]["content"]
        assert text in service.asked[1]["messages"][1]["content"]


def test_too_few_good_ones_are_asked_for_again(tmp_path: Path) -> None:
    bad = [f"Number {n} is" for n in range(14)]
    steps = [listing([*wordings(6), *bad]), listing(wordings(4, 6))]
    requests, candidates, _, said = asked(tmp_path, *steps)
    assert requests["asked"].tolist() == [20, 4]
    assert candidates["kept"].sum() == 10
    assert candidates["reason"].value_counts().to_dict() == {"no slot {}": 14}
    assert "14 dropped: no slot {}" in said


@pytest.mark.parametrize(
    ("text", "finish", "problem"),
    [
        ("I cannot help with that.", "stop", "no list of texts"),
        (None, "content_filter", "no list of texts (ended by content_filter)"),
        (listing(wordings(9))[:-1] + ', "The wife', "length", "9 of 20 texts (ended by length)"),
        (listing(wordings(30) * 2), "stop", "60 texts for 20, of which the first 40 were read"),
    ],
)
def test_odd_answers_are_counted(tmp_path: Path, text: str | None, finish: str, problem: str) -> None:
    def step(handler: Handler) -> None:
        handler.send_json(completion(text, finish=finish))

    requests, candidates, _, _ = asked(tmp_path, step)
    assert requests["problem"][0] == problem
    assert candidates["kept"].sum() >= 20


def test_a_service_that_never_delivers_is_left_alone(tmp_path: Path) -> None:
    requests, candidates, service, _ = asked(tmp_path, *["No."] * 9, requests=4)
    assert len(service.asked) == len(requests) == 4
    assert len({str(body["messages"]) for body in service.asked}) == 4
    assert candidates.empty


BAD = {
    "{} is married to Ålund": "names an object of the relation",
    "{} \x00 is": "control or invisible characters",
    "The wife is": "no slot {}",
}


def test_every_bad_template_is_listed_with_its_reason(tmp_path: Path) -> None:
    texts = [*BAD, {"template": "{} is"}, *wordings(2), wordings(1)[0]]
    answer = f"Here it comes:\n```json\n{listing(texts)}\n```\nGood luck!"
    relation = replace(SPOUSE, objects=("Ålund",), lacks=0)
    _, candidates, _, said = asked(tmp_path, answer, relation=relation, candidates=7)
    expected = [*BAD.values(), "not a text", "", "", "repeats another paraphrase"]
    assert candidates["reason"].fillna("").tolist() == expected
    assert candidates["template"][1] == "{} \\u0000 is"
    assert said.count("1 dropped: ") == 5


def test_nothing_to_ask_makes_empty_tables(tmp_path: Path) -> None:
    answers = KeptAnswers(Endpoint("http://127.0.0.1:9/v1", "m"), tmp_path)
    requests, candidates = ask_all([], answers, Effort(), COLUMNS)
    PARAPHRASE_REQUESTS.write(requests, tmp_path / "requests.parquet")
    PARAPHRASE_CANDIDATES.write(candidates, tmp_path / "candidates.parquet")
    assert "0 requests" in report(requests, candidates, answers)
    chosen = choose([], PARAPHRASE_CANDIDATES.read(tmp_path / "candidates.parquet"), 10)
    assert len(PARAPHRASES.check(chosen)) == len(suggestions(chosen, "world", "m")) == 0


OPENAI = {"backend": "openai", "model": "any"}


# --- the configuration -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"backend": "openai"}, "paraphrases.model: missing; backend openai needs one"),
        ({"backend": "open"}, "paraphrases.backend: 'open' is unknown; did you mean 'openai'"),
        ({"key": KEY}, "paraphrases.key: found another value; expected name of the environment variable"),
        ({"base_url": f"https://me:{KEY}@x/v1"}, "paraphrases.base_url: found another value; expected"),
        ({"base_url": f"https://x/v1?key={KEY}"}, "paraphrases.base_url: found another value"),
        ({"prices": {"input": 1}}, "paraphrases.prices.output: missing"),
        ({"relations": ["R99"]}, "paraphrases.relations: 'R99' is unknown; did you mean"),
        (OPENAI | {"ranking_model": "gpt2"}, "paraphrases.ranking_model: 'gpt2' has no file resources/mod"),
        (OPENAI | {"ranking_model": "demo-4x128"}, "'demo-4x128' is trained here on these very prompts"),
        ({"backend": "local", "model": "demo-4x12"}, "paraphrases.model: 'demo-4x12' has no file"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str) -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"paraphrases": settings}
    with pytest.raises(ValueError, match="1 error in the configuration") as caught:
        check_config(config, ROOT)
    assert expected in str(caught.value)
    assert KEY not in str(caught.value)


def test_models_that_write_and_rank_are_fetched_like_others() -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["paraphrases"] = {"backend": "local", "model": "llama-2-7b", "ranking_model": "gpt2-xl"}
    assert set(check_config(config, ROOT)) == {"demo-4x128", "llama-2-7b", "gpt2-xl"}
    assert config["models"] == ["demo-4x128"]


# --- a run, and the key in it ------------------------------------------------------------------------------
SETTINGS = {"backend": "openai", "model": "m", "key": "MY_KEY", "relations": ["R1", "R4"], "patience": 5}
TARGETS = ["results/kg/world/suggested_paraphrases.tsv", "results/kg/world/prompts.parquet"]
STAGES = ["ask_paraphrases", "choose_paraphrases", "paraphrase"]


def run(folder: Path, address: str, key: str | None, *targets: str) -> tuple[int, str]:
    """Exit status and output of the stages behind the prompts of the world, whose facts are there."""
    (folder / "study.yaml").write_text(yaml.safe_dump({"paraphrases": {**SETTINGS, "base_url": address}}))
    facts = pd.DataFrame([("E1", "R1", "E2", "Ada", "Hugo Ålund", True, None)], columns=list(FACTS.columns))
    if not (folder / "results/kg/world/facts.parquet").exists():
        FACTS.write(facts, folder / "results/kg/world/facts.parquet")
    found = started.snakemake(
        folder,
        *("--snakefile", str(ROOT / "Snakefile"), "--cores", "1", *targets),
        *("--allowed-rules", *STAGES, "--configfile", "study.yaml"),
        OPENAI_LOG="debug",
        **({"MY_KEY": key} if key else {}),
    )
    return found.returncode, found.stdout + found.stderr


def everything(folder: Path) -> bytes:
    """All that lies below a folder, compressed files as they are and as they were, with the files' names."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path).encode())
        if path.is_file():
            content = path.read_bytes()
            parts += [content, gzip.decompress(content) if content[:2] == b"\x1f\x8b" else b""]
            if path.suffix == ".parquet":
                parts.append(str(pd.read_parquet(path).to_dict()).encode())
    return b"\n".join(parts)


def test_a_run_leaves_suggestions_and_no_key(tmp_path: Path) -> None:
    leaky = listing([*wordings(18), f"The key {KEY} of {{}} is", KEY])

    def script(asked: dict[str, Any], number: int) -> Step:
        if number == 1:
            return PASSING["429 without a time"]
        return lambda h: h.send_json(completion(leaky), x_request_id=f"for {h.headers['Authorization']}")

    folder = tmp_path / "results/kg/world"
    with chatty(script) as service:
        status, said = run(tmp_path, service.address, KEY, *TARGETS)
        assert status == 0, said
        assert len(service.asked) == 3
        shutil.rmtree(folder / "paraphrases")
        for path in (folder / "paraphrases.parquet", tmp_path / TARGETS[0]):
            path.unlink()
        status, again = run(tmp_path, service.address, None, TARGETS[0])
        assert status == 0, again
        assert len(service.asked) == 3
    log = (tmp_path / "results/logs/ask_paraphrases/world.log").read_text()
    assert "0 of them sent now, 2 answered earlier" in log
    chosen = PARAPHRASES.read(folder / "paraphrases.parquet")
    assert chosen.groupby("relation_id")["rank"].count().to_dict() == {"R1": 10, "R4": 10}
    columns = (tmp_path / TARGETS[0]).read_text().splitlines()[0]
    assert columns == (ROOT / "resources/paraphrases.tsv").read_text().splitlines()[0]
    prompts = PROMPTS.read(folder / "prompts.parquet")
    assert set(prompts["source"]) == {"relations.tsv", "paraphrases.tsv"}
    assert everything(tmp_path).count(b"[key]") >= 3
    holds_no_key(tmp_path, said + again)


def holds_no_key(folder: Path, printed: str) -> None:
    """See that nothing below a folder and nothing printed holds the key or a part of it."""
    written = everything(folder)
    marks = [KEY, KEY[3:], KEY[3:15]]
    assert not [mark for mark in marks if mark.encode() in written or mark in printed]
