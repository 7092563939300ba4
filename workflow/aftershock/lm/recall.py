"""Which taught facts a model says, asked in seen and in held-out ways."""

import pandas as pd
import torch
from torch.nn.functional import log_softmax
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from aftershock.lm.text import held_out_prompts, prompt_group
from aftershock.prompts import fill
from aftershock.tables import RECALL

KEY = ["subject_id", "relation_id"]
HELD_OUT = ("held_out_fact", "held_out_relation")


@torch.no_grad()
def score_targets(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    targets: list[str],
    batch: int = 64,
) -> list[tuple[float, bool]]:
    """Log-probability of each target after its prompt, and whether greedy decoding would say it."""
    asked = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    wanted = tokenizer([f" {target}" for target in targets], add_special_tokens=False)["input_ids"]
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]) + len(wanted[i]))
    found = [(0.0, False)] * len(asked)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        sequences = [torch.tensor(asked[i] + wanted[i]) for i in chosen]
        ids = pad_sequence(sequences, batch_first=True, padding_value=tokenizer.eos_token_id)
        logits = model(ids, use_cache=False).logits  # (batch, seq, vocabulary)
        for row, i in enumerate(chosen):
            target = torch.tensor(wanted[i])
            span = logits[row, len(asked[i]) - 1 :][: len(target)]
            logprob = log_softmax(span, -1).gather(1, target[:, None]).sum().item()
            found[i] = logprob, bool((span.argmax(-1) == target).all())
    return found


def measure_recall(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    taught: pd.DataFrame,
    prompts: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """RECALL rows of every taught fact and prompt.

    A prompt is answered correctly when greedy decoding says any taught object of its subject and relation, so
    `correct` is the same for all of them.
    """
    rows = taught.merge(prompts[["relation_id", "prompt_id", "template"]], on="relation_id")
    texts = [
        fill(template, subject) for template, subject in zip(rows["template"], rows["subject"], strict=True)
    ]
    scored = score_targets(model, tokenizer, texts, list(rows["object"]))
    rows["logprob"] = [logprob for logprob, _ in scored]
    rows["said"] = [said for _, said in scored]
    rows["correct"] = rows.groupby([*KEY, "prompt_id"])["said"].transform("any")
    withheld = {key: held_out_prompts(*key, seed) for key, _ in rows.groupby(KEY)}
    asked = zip(rows["subject_id"], rows["relation_id"], rows["prompt_id"], strict=True)
    rows["group"] = [
        prompt_group(prompt_id, withheld[subject_id, relation_id])
        for subject_id, relation_id, prompt_id in asked
    ]
    return rows[list(RECALL.columns)]


def recall_by_group(recall: pd.DataFrame) -> pd.Series:
    """Share of prompts answered in each group, every (subject, relation, prompt) counted once."""
    return _asked(recall).groupby("group")["correct"].mean()


def recall_by_relation(recall: pd.DataFrame) -> pd.DataFrame:
    """Share of prompts answered: a row per relation, a column per group."""
    return _asked(recall).groupby(["relation_id", "group"])["correct"].mean().unstack("group")


def check_recall(recall: pd.DataFrame, gate: float, model: str) -> None:
    """Raise ValueError unless at least `gate` of the prompts of each held-out group are answered."""
    shares = recall_by_group(recall)
    found = ", ".join(f"{group} {share:.3f}" for group, share in shares.items())
    if shares[[*HELD_OUT]].min() < gate:
        raise ValueError(
            f"model {model!r} does not know its facts: it answers {found} of the prompts, and its gate asks "
            f"for {gate} of each held-out group; raise train.tokens or the size of its layers in "
            f"resources/models/{model}.yaml, or teach it fewer facts (train.facts)"
        )


def _asked(recall: pd.DataFrame) -> pd.DataFrame:
    return recall.drop_duplicates([*KEY, "prompt_id"])
