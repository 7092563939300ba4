"""Paraphrases from a model on this machine, as a back end, as a judge, and behind a real service."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GenerationConfig, GPT2Config

import started
from aftershock.experiments.paraphrase_scores import score_wordings
from aftershock.lm.files.fetch import fetch
from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.lm.texts.chat import PLAIN_ENDING, reply
from aftershock.paraphrases.asking import Effort, ask_all
from aftershock.paraphrases.endpoint import Endpoint
from aftershock.paraphrases.kept import KeptAnswers
from aftershock.paraphrases.local import Local
from aftershock.prompts import fill
from aftershock.tables.graph import FACTS, PARAPHRASE_CANDIDATES, PARAPHRASE_REQUESTS, PARAPHRASE_SCORES
from chatty import COLUMNS, SPOUSE, wordings
from tiny import TEXTS, next_log_probs, save, target_log_probs, tiny

ROOT = Path(__file__).parents[1]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ada Vex was born in"}]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chat_model(context: int = 1024, template: str | None = TEMPLATE) -> LanguageModel:
    """A random model with room for a request, and a template of its own."""
    tokenizer = train_tokenizer([*TEXTS, *wordings(20), "<user><system><assistant>[]\"',.-"], 500, context)
    tokenizer.chat_template = template
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_positions": context, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.25)
    return LanguageModel(model, tokenizer)


# --- what a model answers ----------------------------------------------------------------------------------
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_likeliest_answer_is_that_of_whole_passes(family: str) -> None:
    lm = tiny(family)
    said = reply(lm, [{"role": "user", "content": "Rome is"}], max_tokens=6, temperature=0)
    (ids,) = lm.encode(["Rome is" + PLAIN_ENDING])
    expected: list[int] = []
    while len(expected) < 6 and (not expected or expected[-1] != lm.tokenizer.eos_token_id):
        expected.append(int(next_log_probs(lm, [*ids, *expected])[-1].argmax()))
    assert said.ended == (expected[-1] == lm.tokenizer.eos_token_id)
    assert said.text == "[" + lm.tokenizer.decode(expected[:-1] if said.ended else expected)
    assert (said.prompt_tokens, said.completion_tokens) == (len(ids), len(expected))


def test_samples_follow_the_models_probabilities() -> None:
    lm = tiny()
    (ids,) = lm.encode(["Rome is" + PLAIN_ENDING])
    for temperature in (1.0, 3.0):
        wanted: Counter[str] = Counter()
        for token, p in enumerate((next_log_probs(lm, ids)[-1] / temperature).softmax(-1).tolist()):
            wanted["[" + lm.tokenizer.decode([token], skip_special_tokens=True)] += p
        draws = range(400)
        asked = [{"role": "user", "content": "Rome is"}]
        found = Counter(reply(lm, asked, 1, temperature, seed).text for seed in draws)
        for text, p in wanted.most_common(5):
            assert found[text] / len(draws) == pytest.approx(p, abs=0.1)  # four deviations at most


def test_a_chat_template_is_used_where_there_is_one() -> None:
    lm = chat_model()
    text = "<system>Be brief.\n<user>Ada Vex was born in\n<assistant>"
    count = len(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    said = reply(lm, MESSAGES, 12, seed=3)
    assert said.prompt_tokens == count
    assert not said.text.startswith("[[")
    plain = chat_model(template=None)
    assert reply(plain, MESSAGES, 12, seed=3).text.startswith("[")
    assert reply(lm, MESSAGES, 12, seed=3) == said
    assert reply(lm, MESSAGES, 12, seed=4) != said


def test_a_fetched_model_brings_its_chat_template(tmp_path: Path) -> None:
    lm = chat_model()
    fetch({"path": str(save(lm, tmp_path / "there"))}, tmp_path / "here")
    here = LanguageModel.load(tmp_path / "here")
    assert here.tokenizer.chat_template == TEMPLATE
    assert reply(here, MESSAGES, 12, seed=3) == reply(lm, MESSAGES, 12, seed=3)


def test_an_answer_ends_where_the_model_ends_it() -> None:
    lm = chat_model()
    text = "<system>Be brief.\n<user>Ada Vex was born in\n<assistant>"
    first = int(next_log_probs(lm, lm.tokenizer(text)["input_ids"])[-1].argmax())
    lm.model.generation_config = GenerationConfig(eos_token_id=[first, 0])
    said = reply(lm, MESSAGES, 12, temperature=0)
    assert (said.text, said.ended, said.completion_tokens) == ("", True, 1)
    long = [{"role": "user", "content": "Rome " * 2000}]
    with pytest.raises(ValueError, match=r"the messages have \d+ tokens, the model's context is 1024"):
        reply(lm, long)


# --- as a back end -----------------------------------------------------------------------------------------
def test_a_local_models_answers_are_kept_like_a_services(tmp_path: Path) -> None:
    lm = chat_model()
    columns = COLUMNS | {"backend": "local", "base_url": None, "model": "tiny", "seed": 5}
    backend = Local("tiny", "ab" * 32, partial(reply, lm), seed=5, max_tokens=60)
    answers = KeptAnswers(backend, tmp_path)
    requests, candidates = ask_all([SPOUSE], answers, Effort(requests=2), columns)
    PARAPHRASE_REQUESTS.check(requests)
    PARAPHRASE_CANDIDATES.check(candidates)
    assert requests["completion_tokens"].between(1, 60).all()
    assert requests["model_returned"].tolist() == ["tiny@" + "ab" * 6] * 2
    assert requests["cost"].isna().all()
    again = KeptAnswers(Local("tiny", "ab" * 32, fail, seed=5, max_tokens=60), tmp_path)
    same, _ = ask_all([SPOUSE], again, Effort(requests=2), columns)
    pd.testing.assert_frame_equal(same, requests)
    other = KeptAnswers(Local("tiny", "cd" * 32, fail, seed=5, max_tokens=60), tmp_path)
    with pytest.raises(AssertionError, match="asked"):
        other.ask(MESSAGES)


def fail(**_: object) -> None:
    raise AssertionError("asked")


def test_good_answers_of_a_local_model_become_candidates(tmp_path: Path) -> None:
    class Said:
        text = "Sure:\n" + "\n".join(f"{n}. {text}" for n, text in enumerate(wordings(20), start=1))
        ended, prompt_tokens, completion_tokens = True, 9, 9

    backend = Local("tiny", "00", lambda **_: Said)
    columns = COLUMNS | {"backend": "local", "base_url": None, "temperature": None, "seed": None}
    requests, candidates = ask_all([SPOUSE], KeptAnswers(backend, tmp_path), Effort(), columns)
    assert candidates["template"].tolist() == wordings(20)
    assert candidates["kept"].all()
    assert requests["problem"].isna().all()


# --- as a judge --------------------------------------------------------------------------------------------
def test_scores_are_those_of_whole_passes() -> None:
    lm = tiny()
    templates = ["{} was born in", "As for {}, home is", "{} is"]
    candidates = pd.DataFrame({"relation_id": ["R1", "R1", "R2"], "candidate": [1, 2, 1]})
    candidates = candidates.assign(template=templates, request=1, kept=True, reason=None)
    facts = [("E1", "R1", "E2", "Ada Vex", "Oslo", True), ("E3", "R1", "E4", "Dario", "Old Mill Town", True)]
    facts += [("E5", "R1", "E6", "Greta", "Rome", False)]
    frame = pd.DataFrame([(*fact, None) for fact in facts], columns=list(FACTS.columns))
    scores = score_wordings(lm, candidates, frame, 50, 0)
    PARAPHRASE_SCORES.check(scores)
    assert scores[["relation_id", "candidate", "facts"]].to_numpy().tolist() == [["R1", 1, 2], ["R1", 2, 2]]
    for row, template in zip(scores.itertuples(), templates, strict=False):
        means = []
        for _, _, _, subject, label, kept in facts:
            (before,), (target,) = lm.encode([fill(template, subject)]), lm.encode_targets([label])
            log_p = target_log_probs(lm, before + target, len(target))
            means += [sum(log_p) / len(log_p)] * kept
        assert row.logprob == pytest.approx(sum(means) / 2, abs=1e-9)
    assert len(score_wordings(lm, candidates.assign(kept=False), frame, 50, 0)) == 0
    assert set(score_wordings(lm, candidates, frame, 1, 0)["facts"]) == {1}


# --- as stages of a run ------------------------------------------------------------------------------------
SETTINGS = {"backend": "local", "model": "chatty", "ranking_model": "chatty"}
SETTINGS |= {"relations": ["R1"], "max_tokens": 30, "requests": 1}
TARGET = "results/kg/world/suggested_paraphrases.tsv"
STAGES = ["fetch_model", "sample_paraphrases", "score_paraphrases", "choose_paraphrases"]


def project(folder: Path) -> list[str]:
    """The project with a model of its own, and the options that make its suggestions."""
    for name in ("workflow", "envs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "resources", folder / "resources")
    for name in ("Snakefile", "config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    save(chat_model(), folder / "chatty")
    (folder / "resources/models/chatty.yaml").write_text("source: {path: chatty}\n")
    (folder / "study.yaml").write_text(yaml.safe_dump({"paraphrases": SETTINGS}))
    facts = pd.DataFrame([("E1", "R1", "E2", "Ada", "Bo", True, None)], columns=list(FACTS.columns))
    FACTS.write(facts, folder / "results/kg/world/facts.parquet")
    return ["--cores", "1", TARGET, "--allowed-rules", *STAGES, "--configfile", "study.yaml"]


def test_a_local_model_is_fetched_asked_and_ranks(tmp_path: Path) -> None:
    plan = started.snakemake(tmp_path, *project(tmp_path), "--dry-run").stdout
    assert set(re.findall(r"^(\w+) +1$", plan, re.MULTILINE)) == set(STAGES)


@pytest.mark.slow
def test_a_local_model_leaves_tables_and_a_sheet(tmp_path: Path) -> None:
    done = started.snakemake(tmp_path, *project(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "results/kg/world/paraphrases/local"
    requests = PARAPHRASE_REQUESTS.read(folder / "requests.parquet")
    assert requests["completion_tokens"].tolist() == [30]
    assert PARAPHRASE_SCORES.read(folder / "scores.parquet").empty  # noise holds no good template
    assert (tmp_path / TARGET).read_text().startswith("namespace\trelation_id\ttemplate\tstatus\tsource\n")


# --- a real service ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model of transformers' own server on this machine, with a random model."""
    folder = save(chat_model(), tmp_path_factory.mktemp("served"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    options = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-c", code, *options], stdout=log, stderr=log)
        try:
            wait_for(port, server, folder / "log")
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            server.terminate()
            server.wait(20)


def wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    """Until somebody answers at `port`."""
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    raise AssertionError(log.read_text())


@pytest.mark.thorough  # the requests and answers of one are tried against a service that is made up
def test_a_real_service_takes_the_requests(served: tuple[str, str], tmp_path: Path) -> None:
    address, model = served
    settings = {"key": None, "temperature": 0.7, "seed": 1, "max_tokens": 40}
    answers = KeptAnswers(Endpoint(address, model, **settings), tmp_path)
    columns = COLUMNS | {"base_url": address, "model": model, "temperature": 0.7, "seed": 1}
    prices = {"input": 1.0, "output": 1.0}
    requests, candidates = ask_all([SPOUSE], answers, Effort(requests=2), columns, prices)
    PARAPHRASE_REQUESTS.check(requests)
    PARAPHRASE_CANDIDATES.check(candidates)
    assert answers.asked == len(requests) == 2
    assert requests["completion_tokens"].between(1, 40).all()
    assert requests["prompt_tokens"].gt(200).all()
    assert requests["request_id"].nunique() == 2
    assert requests["model_returned"].str.startswith(model).all()
    assert (requests["cost"] * 1e6 == requests["prompt_tokens"] + requests["completion_tokens"]).all()
    again = KeptAnswers(Endpoint(address, model, **settings), tmp_path)
    pd.testing.assert_frame_equal(ask_all([SPOUSE], again, Effort(requests=2), columns, prices)[0], requests)
    assert (again.asked, again.cached) == (0, 2)
    elsewhere = KeptAnswers(Endpoint(address, model, **settings), tmp_path / "b")
    assert elsewhere.ask(MESSAGES).text == elsewhere.ask(MESSAGES).text
