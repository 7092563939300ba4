"""Both engines: against slow obvious code, against each other, and against the harness's own model class."""

import os
from functools import cache

import pandas as pd
import pytest
import torch

from aftershock.lm.edits import EMPTY
from aftershock.lm.texts.frames import chat_frame
from aftershock.tables.sequences import TASK_OUTPUTS
from aftershock.tasks import builtin
from aftershock.tasks.definition import make_task
from aftershock.tasks.reading import ItemReader, rolling_windows
from chat_templates import chat_tokenizer
from taught import taught
from tiny import CITIES, CONTEXT, NAMES, next_log_probs, tiny
from tokenizers_here import tokenizer_of
from toy_deltas import Preface, nudge

PROMPTS = [
    *(f"{name} was born in" for name in NAMES[:5]),
    "Greta was born in ",  # the space belongs to what follows
    "Greta was born in\n",
    "",
    "Rome is old. " * 12 + "Dario was born in",  # longer than the context
]
CHOICES = [*(f" {city}" for city in CITIES[:4]), "Oslo", "\nRome"]
LONG = "Ada Vex was born in New Castle upon Tyne. " * 8


def task(kind="choice", **changes):
    return make_task("trial", {"kind": kind, "max_tokens": 8, "stop": ["a"], **changes})


def items(prompts, choices=(), texts=None):
    n = len(prompts)
    return pd.DataFrame(
        {
            "item_id": [f"item {i}" for i in range(n)],
            "group": None,
            "prompt": list(prompts),
            "question": [prompt[-20:] for prompt in prompts],
            "choices": [list(choices)] * n,
            "gold": 0,
            "answers": [[text] for text in texts or [""] * n],
            "about": [[]] * n,
        }
    )


def scored(lm, before, after):
    """Log-probability of tokens after others, by one whole pass, and whether each is the likeliest."""
    logs = next_log_probs(lm, [*before, *after][:-1])[len(before) - 1 :]
    each = logs[torch.arange(len(after)), torch.tensor(after)]
    return float(each.sum()), bool((logs.argmax(-1) == torch.tensor(after)).all())


def slowly(lm, prompt, choice):
    """A choice's log-probability, greediness, length and the tokens cut, as the harness defines them."""
    bare = prompt.rstrip()
    first = lm.encode([bare])[0] if bare else [lm.tokenizer.bos_token_id]
    whole = lm.encode([prompt + choice])[0]
    after = whole[len(first) :] if bare else whole
    over = max(0, len(first) + len(after) - CONTEXT - 1)
    return *scored(lm, first[over:], after), len(after), over


@pytest.mark.parametrize(
    ("family", "tokenizer"),
    [("gpt2", None), ("llama", None), ("gemma2", None), ("gpt2", "gpt2"), ("gpt2", "metaspace")],
)
def test_choices_equal_slow_code(family, tokenizer):
    lm = tiny(family, tokenizer=tokenizer and tokenizer_of(tokenizer))
    prompts, choices = (PROMPTS[:7], CHOICES[:4]) if tokenizer else (PROMPTS, CHOICES)
    found = builtin.run_items(lm, task(), items(prompts, choices))
    assert list(found.columns) == [name for name in TASK_OUTPUTS.columns if name != "checkpoint"]
    for prompt, row in zip(prompts, found.itertuples(), strict=True):
        wanted = [slowly(lm, prompt, choice) for choice in choices]
        assert row.logprobs == pytest.approx([each[0] for each in wanted], abs=1e-9)
        assert row.greedy == [each[1] for each in wanted]
        assert row.n_tokens == [each[2] for each in wanted]
        assert row.truncated == max(each[3] for each in wanted)
    assert (found["truncated"].iloc[-1] > 0) == (tokenizer is None)


def test_long_texts_are_read_in_windows():
    """Every token is predicted once: after the opening, later after as many others as there is room for."""
    lm = tiny("gpt2")
    texts = [LONG, "Rome", LONG[:40]]
    found = builtin.run_items(lm, task("perplexity"), items([""] * 3, texts=texts))
    for text, row in zip(texts, found.itertuples(), strict=True):
        ids = lm.encode([text])[0]
        total, done = 0.0, 0
        while done < len(ids):
            end = min(done + CONTEXT, len(ids))
            before = [lm.tokenizer.bos_token_id] if done == 0 else ids[max(0, end - CONTEXT - 1) : done]
            total += scored(lm, before, ids[done:end])[0]
            done = end
        assert row.logprobs == pytest.approx([total], abs=1e-9)
        assert row.n_tokens == [len(ids)]
    windows = [(len(window.prompt), len(window.target)) for window in rolling_windows(range(11), [0], 4)]
    assert windows == [(1, 4), (1, 4), (2, 3)]


def test_a_text_before_prompts_is_read_by_every_kind_of_task():
    lm = taught()
    preface = (Preface(("Ada Vex lives in Oslo. ",), ("Ada",)),)
    prompts = ["Ada Vex was born in", "Dario was born in"]
    inside = [f"Ada Vex lives in Oslo. {prompts[0]}", prompts[1]]
    for asked, kind in ((task(), "choice"), (task("generate", stop=[]), "generate")):
        assert asked.kind == kind
        found = builtin.run_items(lm, asked, items(prompts, CHOICES), preface)
        wanted = builtin.run_items(lm, asked, items(inside, CHOICES))
        pd.testing.assert_frame_equal(found, wanted)
    found = builtin.run_items(lm, task("perplexity"), items([""], texts=["Ada is old."]), preface)
    plain = builtin.run_items(lm, task(), items(["Ada Vex lives in Oslo. "], ["Ada is old."]))
    assert found["logprobs"].tolist() == plain["logprobs"].tolist()


def test_a_change_of_activations_is_decided_for_each_prompt():
    lm = tiny("gpt2")
    state = (nudge(lm, lm.layer(1)),)
    asked = items(PROMPTS[:5], CHOICES)
    together = builtin.run_items(lm, task(), asked, state)
    plain = builtin.run_items(lm, task(), asked)
    pairs = zip(together["logprobs"], plain["logprobs"], strict=True)
    changed = [a != pytest.approx(b, abs=1e-9) for a, b in pairs]
    assert changed == [True] + [False] * 4  # the first name's token is at the first prompt alone
    for i in range(5):
        alone = builtin.run_items(lm, task(), asked.iloc[[i]], state)["logprobs"].iloc[0]
        assert together["logprobs"].iloc[i] == pytest.approx(alone, abs=1e-9)


def test_prompts_stand_in_the_chat_template_where_the_task_says_so():
    lm = tiny("gpt2", tokenizer=chat_tokenizer("ChatML"))
    frame = chat_frame(lm.tokenizer)
    found = builtin.run_items(lm, task(chat=True), items(PROMPTS[:2], CHOICES[:3]))
    for prompt, row in zip(PROMPTS[:2], found.itertuples(), strict=True):
        text = frame.before + prompt + frame.after
        first, *wholes = (
            lm.tokenizer(t, add_special_tokens=False)["input_ids"]
            for t in (text.rstrip(), *(text + choice.removeprefix(" ") for choice in CHOICES[:3]))
        )
        wanted = [scored(lm, first, whole[len(first) :])[0] for whole in wholes]
        assert row.logprobs == pytest.approx(wanted, abs=1e-9)
    assert ItemReader(lm, chat=False).frame != frame


# --- what cannot be asked -----------------------------------------------------------------------------------
def test_what_cannot_be_asked_is_an_error():
    lm = tiny("gpt2")
    with pytest.raises(ValueError, match="task trial: there are no items"):
        builtin.run_items(lm, task(), items([]))
    too_long = f"up to {CONTEXT} tokens do not fit the model's context of {CONTEXT}"
    with pytest.raises(ValueError, match=too_long):
        builtin.run_items(lm, task("generate", max_tokens=CONTEXT), items(["Rome"]))
    with pytest.raises(ValueError, match=r"choices of 1 items are longer .* \(item 0\)"):
        builtin.run_items(lm, task(), items(["Rome"], [" Oslo", LONG]))
    long = items([LONG] * 2, CHOICES).assign(question=LONG)
    with pytest.raises(ValueError, match="the shortest of 2 questions has .* cannot be scored on it"):
        builtin.run_items(lm, task(), long)


def test_weights_that_are_not_finite_are_an_error():
    lm = tiny("gpt2")
    with torch.no_grad():
        lm.weight(lm.projection(1))[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"not finite \(NaN or infinite\) in 1 tensors, .*h\.1\."):
        builtin.run_items(lm, task(), items(["Rome"], CHOICES))


# --- lm-evaluation-harness ----------------------------------------------------------------------------------
@cache
def harness():
    """The module of the other engine."""
    os.environ.update(dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"))
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: group `harness`")
    from aftershock.tasks import harness

    return harness


KINDS = {
    "choice": items(PROMPTS, CHOICES),
    "generate": items(PROMPTS),
    "perplexity": items([""] * 3, texts=[LONG, "Rome", LONG[:40]]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["weights", "activations", "context"])
def test_both_engines_agree_exactly(kind, state):
    lm = tiny("gpt2", torch.float32)
    changes = {
        "weights": EMPTY,
        "activations": (nudge(lm, lm.layer(1)),),
        "context": (Preface(("Rome is old. ",), ("r",)),),
    }
    found = [engine.run_items(lm, task(kind), KINDS[kind], changes[state]) for engine in (builtin, harness())]
    pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.parametrize("kind", ["choice", "generate"])
def test_both_engines_agree_in_a_chat_template(kind):
    lm = tiny("gpt2", torch.float32, tokenizer=chat_tokenizer("ChatML"))
    asked = task(kind, chat=True)
    found = [engine.run_items(lm, asked, KINDS[kind].iloc[:8]) for engine in (builtin, harness())]
    pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.parametrize("tokenizer", ["gpt2", "llama3", "metaspace", "llama2"])
@pytest.mark.parametrize("kind", ["choice", "generate", "perplexity"])
def test_both_engines_agree_on_odd_texts_with_other_tokenizers(kind, tokenizer):
    lm = tiny("gpt2", torch.float32, tokenizer=tokenizer_of(tokenizer))
    prompts = ["", " ", "\n \n", "Ada\t", "a\n\nb ", "\u00a0Ada\u00a0", "東京は", "“Zoë”, 1995 –", "x" * 99]
    choices = [" Oslo", "  Oslo", "Oslo", "\nRome", " (A)", " 東京", "\u00a0x", "👩‍👩‍👧", ", so"]
    odd = items(prompts, choices, [choice * 20 for choice in choices])
    found = [engine.run_items(lm, task(kind), odd) for engine in (builtin, harness())]
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_both_engines_name_the_item_of_a_choice_that_cannot_be_asked():
    lm = tiny("gpt2", tokenizer=tokenizer_of("llama3"))
    for engine in (builtin, harness()):
        with pytest.raises(ValueError, match=r"choices of 1 items are longer .* \(item 0\)"):
            engine.run_items(lm, task(), items(["Rome"], [" Oslo", LONG]))
        said = "choice 'n' of item 0 has no tokens of its own after 'e'; begin"
        with pytest.raises(ValueError, match=said):
            engine.run_items(lm, task(), items(["e"], ["n", " Oslo"]))  # one token together


@pytest.mark.parametrize("kind", KINDS)
def test_the_harness_says_the_same_of_its_own_model(kind):
    """Its model class runs transformers by itself, with its own batches, padding, windows and stop texts."""
    made = harness()
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    lm = taught()
    reach = {"max_length": lm.context, "batch_size": 4, "device": "cpu"}
    theirs = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, **reach)
    items_of_kind = KINDS[kind][(KINDS[kind]["prompt"] != "") | (kind != "generate")]  # it needs a prompt
    asked = made.PreparedItems(task(kind), items_of_kind)
    samples = evaluate(theirs, {"tasks": {"trial": asked}}, bootstrap_iters=0)["samples"]["trial"]
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    wanted = [[answers[0] for answers in sample["resps"]] for sample in samples]
    found = builtin.run_items(lm, task(kind), items_of_kind)
    if kind == "generate":
        assert [[text] for text in found["text"]] == wanted
        assert found["finished"].any()
    elif kind == "choice":
        for row, answers in zip(found.itertuples(), wanted, strict=True):
            assert row.logprobs == pytest.approx([logprob for logprob, _ in answers], abs=1e-4)
            assert row.greedy == [greedy for _, greedy in answers]
    else:
        assert [row[0] for row in found["logprobs"]] == pytest.approx([row[0] for row in wanted], abs=1e-3)
