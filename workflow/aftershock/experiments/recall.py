"""Recall of training facts by a model, with prompts that it was trained on and with held-out ones."""

import pandas as pd

from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.text import held_out_prompts, prompt_group
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import Query
from aftershock.tables.models import RECALL

KEY = ["subject_id", "relation_id"]
HELD_OUT = ("held_out_fact", "held_out_relation")


def measure_recall(lm: LanguageModel, taught: pd.DataFrame, prompts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """RECALL rows of every training fact and prompt; `seed` is that of the training text.

    A prompt is answered correctly when greedy decoding says any taught object of its subject and relation, so
    `correct` is the same for all of them.
    """
    rows = taught.merge(prompts[["relation_id", "prompt_id", "template"]], on="relation_id")
    asked = zip(rows["template"], rows["subject"], rows["object"], strict=True)
    scores = score(lm, [Query(fill(template, subject), target) for template, subject, target in asked])
    rows["logprob"] = [found.logprob for found in scores]
    rows["said"] = [found.argmax_match for found in scores]
    rows["correct"] = rows.groupby([*KEY, "prompt_id"])["said"].transform("any")
    keys = rows[KEY].drop_duplicates().itertuples(index=False, name=None)
    withheld = {
        (subject_id, relation_id): held_out_prompts(subject_id, relation_id, seed)
        for subject_id, relation_id in keys
    }
    rows["group"] = [
        prompt_group(prompt_id, withheld[subject_id, relation_id])
        for subject_id, relation_id, prompt_id in rows[[*KEY, "prompt_id"]].itertuples(index=False, name=None)
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
