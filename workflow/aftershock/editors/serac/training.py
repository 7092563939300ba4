"""Training SERAC's scope classifier and counterfactual model for one language model.

With labels (Mitchell et al., 2022, section 3.3) an edit's own prompts are in its scope, and prompts about
other facts, those of the other edits of a batch among them, are not: the classifier learns these labels by
cross-entropy, and the counterfactual model the edit's target behind the edit and any of its prompts. The
released code (EasyEdit) has no labels: both learn from the mixture's own losses.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from aftershock.editors.serac import SeracTraining
from aftershock.editors.serac.data import Chosen, Pool
from aftershock.lm.edits.routed import SWITCH, mixture
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope import distance
from aftershock.lm.networks.scope_models import Shape, lowest_layers
from aftershock.lm.texts.tokens import Pair
from aftershock.progress import Progress
from aftershock.seeds import derive, generator

VAL_BATCH = 32
FLOOR = 1e-6  # of a distance, so that the logarithm of 1 - sim is finite


class Networks(nn.Module):
    """The weights that are trained: two models, the classifier's projection and its scale."""

    def __init__(self, lm: LanguageModel, settings: SeracTraining, seed: int) -> None:
        super().__init__()
        self.shape = Shape(
            min(settings.scope_layers, lm.n_layers),
            min(settings.counterfactual_layers, lm.n_layers),
            settings.distance,
            settings.heads,
            settings.bound,
        )
        self.classifier: PreTrainedModel = lowest_layers(lm, self.shape.scope_layers)
        self.counterfactual: PreTrainedModel = lowest_layers(lm, self.shape.counterfactual_layers)
        random = torch.Generator().manual_seed(seed)
        drawn = torch.randn(settings.dimension, lm.d_model, generator=random)
        # two unrelated vectors of a normed stream are then a few units apart
        drawn *= 2 / math.sqrt(settings.dimension * lm.d_model)
        dtype = torch.promote_types(lm.dtype, torch.float32)
        self.projection = nn.Parameter(drawn.to(lm.device, dtype))
        self.log_scale = nn.Parameter(torch.zeros((), device=lm.device, dtype=dtype))

    def weights(self) -> dict[str, Tensor]:
        """Copies of all weights; those that two modules share are named once."""
        return {name: parameter.detach().clone() for name, parameter in self.named_parameters()}

    def log_similarity(self, x: Tensor, keys: Tensor) -> Tensor:
        """Logarithm of the similarity, as `ScopeClassifier` computes it, of vectors that broadcast."""
        return -self.log_scale.exp() * distance(
            x, keys, self.shape.distance, self.shape.heads, self.shape.bound
        )

    def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Vectors of texts by their tokens, (rows, d)."""
        ids, ends = _padded(rows, self.projection.device)
        seen = torch.ones_like(ids)  # padding comes last, where no token sees it
        hidden = self.classifier.base_model(
            input_ids=ids, attention_mask=seen, use_cache=False
        ).last_hidden_state
        return hidden[torch.arange(len(rows), device=ids.device), ends] @ self.projection.T


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows padded on the right, where no token sees it, and the index of each one's last token."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    return ids, torch.tensor([len(row) - 1 for row in rows], device=device)


@dataclass(frozen=True)
class Predicted:
    """Scores where the target tokens of some texts are predicted, one after the other."""

    scores: Tensor  # (target tokens of all texts, vocabulary)
    tokens: Tensor  # (target tokens,)
    owners: Tensor  # the text of each, (target tokens,)

    def losses(self) -> Tensor:
        """The mean negative log-probability of each text's target, (texts,)."""
        found = nn.functional.cross_entropy(self.scores, self.tokens, reduction="none")
        return self.mean(found)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` (target tokens,) over each text, (texts,)."""
        sums = values.new_zeros(int(self.owners[-1]) + 1).index_add(0, self.owners, values)
        return sums / torch.bincount(self.owners)

    def said(self) -> Tensor:
        """True for texts all of whose target tokens are the likeliest ones, (texts,)."""
        return self.mean((self.scores.argmax(dim=-1) == self.tokens).float()) == 1


def predict(model: PreTrainedModel, pairs: Sequence[Pair]) -> Predicted:
    """The outputs of `model` where it predicts the targets of `pairs`."""
    device = next(model.parameters()).device
    ids, _ = _padded([[*pair.prompt, *pair.target[:-1]] for pair in pairs], device)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    owners = [i for i, pair in enumerate(pairs) for _ in pair.target]
    places = [len(pair.prompt) - 1 + j for pair in pairs for j in range(len(pair.target))]
    tokens = torch.tensor([token for pair in pairs for token in pair.target], device=device)
    return Predicted(logits[owners, places], tokens, torch.tensor(owners, device=device))


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, and the results of each of its edits and texts."""

    scope: Tensor
    answer: Tensor
    in_scope: Tensor  # true where an edit's own prompt is found to be in its scope, (edits,)
    out_of_scope: Tensor  # true where another text is classified as out of it, (edits * other_texts,)
    said: Tensor  # true where the target is greedy in the counterfactual model, (edits,)

    @property
    def total(self) -> Tensor:
        """The training loss, whose gradients reach the trained parameters."""
        return self.scope + self.answer


def losses(lm: LanguageModel, net: Networks, batch: Chosen, settings: SeracTraining) -> Losses:
    """The losses of a batch by the objective of `settings`."""
    edits, n = batch.edits, len(batch.edits)
    own = [edit.asked[i] for edit, i in zip(edits, batch.prompts, strict=True)]
    others = [asked for texts in batch.others for asked in texts]
    texts = [edit.asked[0] for edit in edits] + own + others
    vectors = net.embed([asked.ids for asked in texts])
    keys, asked = vectors[:n], vectors[n:]
    logs = net.log_similarity(asked[:, None], keys[None])  # (own and others, edits)
    same = torch.tensor([[a.about == e.about for e in edits] for a in texts[n:]], device=logs.device)
    mine = torch.arange(n, device=logs.device)
    owners = mine.repeat_interleave(len(others) // n)
    answered = [edit.answered[i] for edit, i in zip(edits, batch.prompts, strict=True)]
    predicted = predict(net.counterfactual, answered)
    if settings.objective == "labels":
        negative = -torch.log(-torch.expm1(logs.clamp(max=-FLOOR)))
        scope = -logs[same].mean() + negative[~same].mean()
        answer = predicted.losses().mean()
    else:
        answer = settings.cedit * _edit_loss(lm, predicted, [a.pair for a in own], logs[mine, mine])
        scope = settings.cloc * _other_loss(lm, net, batch, logs[n + torch.arange(len(others)), owners])
    found = logs.detach().exp() > SWITCH
    return Losses(
        scope,
        answer,
        found[mine, mine],
        ~found[n + torch.arange(len(others), device=logs.device), owners],
        predicted.said().detach(),
    )


def _edit_loss(lm: LanguageModel, predicted: Predicted, own: Sequence[Pair], logs: Tensor) -> Tensor:
    """The mean NLL of the edits' targets under the mixture."""
    with torch.no_grad():
        base = predict(lm.model, own)
    mixed = mixture(base.scores, predicted.scores, _share(logs)[predicted.owners], EPSILON)
    return Predicted(mixed, predicted.tokens, predicted.owners).losses().mean()


def _other_loss(lm: LanguageModel, net: Networks, batch: Chosen, logs: Tensor) -> Tensor:
    """The mean KL(unedited || mixture) where the targets of other texts are predicted."""
    pairs = [asked.pair for texts in batch.others for asked in texts]
    front = lm.encode_prompts(
        [
            f"{edit.text} {asked.prompt}"
            for edit, texts in zip(batch.edits, batch.others, strict=True)
            for asked in texts
        ]
    )
    behind = [Pair(tuple(ids), pair.target) for ids, pair in zip(front, pairs, strict=True)]
    with torch.no_grad():
        base = predict(lm.model, pairs)
    answers = predict(net.counterfactual, behind)
    mixed = mixture(base.scores, answers.scores, _share(logs)[answers.owners], EPSILON)
    log_p, log_q = base.scores.log_softmax(dim=-1), mixed.log_softmax(dim=-1)
    return base.mean((log_p.exp() * (log_p - log_q)).sum(dim=1)).mean()


EPSILON = torch.finfo(torch.float32).eps  # that the released mixture adds to every probability


def _share(logs: Tensor) -> Tensor:
    return logs.clamp(max=-FLOOR)


@torch.no_grad()
def validate(
    lm: LanguageModel, net: Networks, batches: Sequence[Chosen], settings: SeracTraining
) -> dict[str, float]:
    """Losses and shares over the dev edits, each a mean over edits."""
    rows = []
    for batch in batches:
        found = losses(lm, net, batch, settings)
        values = (found.scope, found.answer, found.in_scope, found.out_of_scope, found.said)
        rows.append((len(batch.edits), [float(value.float().mean()) for value in values]))
    total = sum(size for size, _ in rows)
    scope, answer, in_scope, out, said = (
        sum(size * values[i] for size, values in rows) / total for i in range(5)
    )
    return {
        **{"val_scope": scope, "val_answer": answer, "val_total": scope + answer},
        **{"in_scope": in_scope, "out_of_scope": out, "success": said},
    }


def train(
    lm: LanguageModel,
    pools: Mapping[str, Pool],
    settings: SeracTraining,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], Shape, pd.DataFrame]:
    """Train; return the weights with the lowest dev loss, their shape, and the curve: a row per evaluation.

    `pools` has "train" and "dev". A batch depends on `seed` and its number alone.
    """
    net = Networks(lm, settings, derive(seed, "serac networks")).train(False)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    rng = generator(seed, "serac dev")
    dev = pools["dev"]
    order = rng.permutation(len(dev.edits))[: settings.val_edits]
    looks = [dev.choose(order[i : i + VAL_BATCH], rng) for i in range(0, len(order), VAL_BATCH)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=settings.lr, weight_decay=0.0)
    curve: list[dict[str, Any]] = []
    best, lowest, since, started = net.weights(), math.inf, [], time.monotonic()
    progress = progress or Progress()
    progress.begin("SERAC", settings.steps, "batch")
    for step in range(settings.steps):
        found = losses(lm, net, pools["train"].draw(generator(seed, "serac batch", step)), settings)
        optimizer.zero_grad(set_to_none=True)
        found.total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), settings.grad_clip)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _share_of_rate(step, settings)
        optimizer.step()
        since.append((found.scope.item(), found.answer.item()))
        if (step + 1) % settings.val_interval == 0 or step + 1 == settings.steps:
            scope, answer = (sum(values) / len(since) for values in zip(*since, strict=True))
            row = {"step": step + 1, "seconds": time.monotonic() - started}
            row |= {"train_scope": scope, "train_answer": answer, **validate(lm, net, looks, settings)}
            curve.append(row)
            logging.info("%s", {name: round(value, 4) for name, value in row.items()})
            since = []
            if row["val_total"] < lowest:
                best, lowest = net.weights(), row["val_total"]
            progress.step(loss=f"{row['val_total']:.3f}", success=f"{row['success']:.2f}")
        else:
            progress.step()
    if not math.isfinite(lowest):
        raise ValueError(f"training SERAC ended without a finite dev loss; lower serac.lr ({settings.lr})")
    return best, net.shape, pd.DataFrame(curve)


def train_models(
    lm: LanguageModel,
    edits: pd.DataFrame,
    others: pd.DataFrame,
    settings: SeracTraining,
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], Shape, pd.DataFrame]:
    """Train as `train`, on rows of `datasets.mend`."""
    pools = {
        split: Pool(lm, edits[edits["split"] == split], others[others["split"] == split], settings)
        for split in ("train", "dev")
    }
    return train(lm, pools, settings, seed, progress)


def _share_of_rate(step: int, settings: SeracTraining) -> float:
    """Share of the full learning rate at a step: a linear rise, then a linear fall."""
    rise = max(1, math.ceil(settings.warmup * settings.steps))
    return min((step + 1) / rise, (settings.steps - step) / max(1, settings.steps - rise))
