"""Probability of true objects after candidate paraphrases of a relation's prompt."""

import pandas as pd

from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.prompts import fill
from aftershock.requests import Query
from aftershock.seeds import generator
from aftershock.tables.graph import PARAPHRASE_SCORES


def score_wordings(
    lm: LanguageModel, candidates: pd.DataFrame, facts: pd.DataFrame, n_facts: int, seed: int
) -> pd.DataFrame:
    """PARAPHRASE_SCORES rows of the good `candidates` (PARAPHRASE_CANDIDATES) of relations with kept facts.

    The score is the mean over facts (FACTS rows; up to `n_facts` of a relation, drawn once, the same for all
    of its candidates) of the object's log-probability per token, in nats.
    """
    queries, rows = [], []
    for relation_id, mine in candidates[candidates["kept"]].groupby("relation_id", sort=False):
        known = facts[(facts["relation_id"] == relation_id) & facts["kept"]]
        known = known.sort_values(["subject_id", "object_id"])
        drawn = generator(seed, "wordings", relation_id).permutation(len(known))[:n_facts]
        asked = list(known.iloc[sorted(drawn)][["subject", "object"]].itertuples(index=False))
        if not asked:
            continue
        for candidate in mine.itertuples(index=False):
            rows.append((relation_id, candidate.candidate, len(asked)))
            queries += [Query(fill(candidate.template, fact.subject), fact.object) for fact in asked]
    if not rows:
        return PARAPHRASE_SCORES.empty()
    values = iter(s.logprob / len(s.token_logprobs) for s in score(lm, queries))
    scored = [(*row, sum(next(values) for _ in range(row[2])) / row[2]) for row in rows]
    frame = pd.DataFrame(scored, columns=["relation_id", "candidate", "facts", "logprob"])
    return frame[list(PARAPHRASE_SCORES.columns)]
