"""MEMOIR: edits are written into a matrix beside one of an MLP, each through a mask of its prompt.

The matrix W puts out W x + W_m (x * mask). An edit's mask is that of its plain prompt, as `MaskedMemory`
makes it; with this mask W_m is trained by gradient descent on the mean negative log-probability of the
target, over the prompt in several contexts (Wang et al., 2025). Inputs outside the mask take no part, so that
most of what other edits wrote stays. The background is the mean feature of texts that the model writes by
itself.

`variant: released` is the code of a later paper that compares with MEMOIR: the target's log-probability is
divided by the number of tokens from the prompt's last but one to the end of the longest text, a placeholder
of some twenty tokens among them, and decay acts on all of W_m, on what other edits wrote too. There a matrix
stored (d_in, d_out), as GPT-2's, is an error, and so it is here.

A small Llama that is edited to say Paris (15 updates, six contexts) says it with log p = -.27 by the paper,
and with -1.00 in the release; it was -1.52 before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import Contexts
from aftershock.editors.memoir import MemoirSettings
from aftershock.editors.remembering import RememberingEditor
from aftershock.editors.side_rows import EarlyEnd, SideRows, Text
from aftershock.lm.edits import State
from aftershock.lm.edits.masked_memory import MaskedMemory
from aftershock.lm.edits.whole_prompt import mean_over
from aftershock.lm.hooks import batches, record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair
from aftershock.requests import EditRequest
from aftershock.seeds import derive

PLACEHOLDER = "<<MEMOIR_IRRELEVANT>>"  # which the released code pads texts to
PUBLISHED_SHARE = 4096 / 14336  # of the inputs
READ_TOKENS = 4096


class Memoir(RememberingEditor):
    """MEMOIR: one delta with the memory of each case and the masks of its edits."""

    kind = MaskedMemory

    def __init__(
        self,
        lm: LanguageModel,
        settings: MemoirSettings,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        self.d_out, self.d_in = lm.weight(self.module).shape
        self.top_k = settings.top_k or max(1, round(PUBLISHED_SHARE * self.d_in))
        if self.top_k > self.d_in:
            raise ValueError(
                f"memoir: top_k {self.top_k} is more than the {self.d_in} inputs of {self.module}; lower it, "
                "or leave it out for two sevenths of them"
            )
        self.released = settings.variant == "released"

    @property
    def case_bytes(self) -> int:
        """Bytes of one case's change: a whole matrix."""
        return self.d_out * self.d_in * self.lm.dtype.itemsize

    @cached_property
    def background(self) -> Tensor:
        """The mean feature of other texts, (d_in,)."""
        lm, settings = self.lm, self.settings
        if settings.feature != "mean_decentered":
            return torch.zeros(self.d_in, dtype=lm.dtype, device=lm.device)
        texts = self.own_texts(settings.background_texts, settings.background_tokens)
        found = []
        for part in batches([len(ids) for ids in texts], READ_TOKENS):
            ids, mask = lm.pad([texts[i] for i in part])
            with torch.no_grad(), record_activations(lm, [self.module], stop=self.module) as seen:
                lm.run(ids, mask, use_cache=False)
            found.append(mean_over(seen["in", self.module], mask.bool()))
        return torch.cat(found).mean(dim=0)

    @cached_property
    def permutation(self) -> Tensor:
        """The places that the largest entries of a feature are sent to, (d_in,)."""
        generator = torch.Generator().manual_seed(derive(self.seed, "permutation"))
        return torch.randperm(self.d_in, generator=generator).to(self.lm.device)

    def empty(self) -> MaskedMemory:
        """A memory of zeros without masks."""
        lm = self.lm
        return MaskedMemory(
            module=self.module,
            top_k=self.top_k,
            threshold=self.settings.threshold,
            feature=self.settings.feature,
            weight=torch.zeros(1, self.d_out, self.d_in, dtype=lm.dtype, device=lm.device),
            masks=torch.zeros(1, 0, self.d_in, dtype=torch.bool, device=lm.device),
            used=torch.zeros(1, 0, dtype=torch.bool, device=lm.device),
            background=self.background[None],
            permutation=self.permutation[None],
        )

    def write(
        self, memory: MaskedMemory, request: EditRequest, state: State
    ) -> tuple[MaskedMemory, int, list[float], dict[str, Any]]:
        """Store the mask of one request, unless it is there, and train the memory through it."""
        pairs = self.pairs(request, state)
        rows = SideRows.of(self.lm, self._texts(pairs), self.layer, state)
        first = torch.zeros(1, dtype=torch.long, device=self.lm.device)
        feature = memory.features(rows.x[:1], rows.prompts[:1], first)
        mask = memory.mask_of(feature, first)
        weight, losses, norms, steps = self._train(memory.weight[0], rows, mask[0], state)
        known = memory.masks[0][memory.used[0]]
        if not (known == mask).all(dim=1).any():
            if len(known) >= self.settings.max_edits:
                raise ValueError(
                    f"memoir: a model has {len(known)} edited prompts already, as many as max_edits allows; "
                    "raise it, or edit fewer facts of one model"
                )
            known = torch.cat([known, mask])
        used = torch.ones(1, len(known), dtype=torch.bool, device=self.lm.device)
        memory = replace(memory, weight=weight[None], masks=known[None], used=used)
        return memory, steps, losses, {"feature": feature[0], "norms": norms}

    def _train(
        self, weight: Tensor, rows: SideRows, mask: Tensor, state: State
    ) -> tuple[Tensor, list[float], list[float], int]:
        """W_m after all updates, the loss and the gradient's norm at every step, and how many updates."""
        settings, end = self.settings, EarlyEnd()
        losses: list[float] = []
        norms: list[float] = []
        weight, read = weight.clone(), rows.x * mask
        for step in range(settings.steps):
            weight.requires_grad_(True)
            with torch.enable_grad():
                loss = rows.loss(self.lm, self.layer, read @ weight.T, state)
                (gradient,) = torch.autograd.grad(loss, [weight])
            losses.append(loss.item())
            weight, norm = weight.detach(), gradient.norm()
            norms.append(norm.item())
            if end or not loss.isfinite():
                return weight, losses, norms, step
            decay = settings.weight_decay * (weight if self.released else weight * mask)
            weight -= settings.lr * (gradient * (settings.max_norm / (norm + 1e-6)).clamp(max=1.0) + decay)
            end.update(loss.item())
        return weight, losses, norms, settings.steps

    def _texts(self, pairs: Sequence[Pair]) -> list[Text]:
        """The rows of an edit, with the weight of their target tokens."""
        width = max(len(pair.prompt) + len(pair.target) for pair in pairs)
        width = max(width, len(self.lm.encode([PLACEHOLDER])[0]))
        texts = []
        for pair in pairs:
            counted = len(pair.target)
            if self.released:
                counted = width - 1 - max(0, len(pair.prompt) - 2)
            share = 1 / (counted * len(pairs))
            texts.append(Text((*pair.prompt, *pair.target), len(pair.prompt), len(pair.target), share))
        return texts
