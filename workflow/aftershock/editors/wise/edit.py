"""WISE: a copy of one matrix is trained on edits, kept apart from other texts, and used where it differs.

One edit trains the change D of the side memory W + D by gradient descent on D, within a random share of the
weights, clamped entry by entry (Wang et al., 2024). With a(x) the mean over tokens of |s(y) - s(y_D)|, where
y is what the matrix puts out and y_D what it does with D,

    L = mean NLL of the target + m(a(other) - a(edit) + gamma) + m(a(other) - alpha) + m(beta - a(edit))

where m is the mean of the positive ones, over the prompt in several contexts, and `other` is a text of the
model's own. The least a(edit) of a memory's edits is its threshold. After `save_freq` edits a new memory
begins, after `merge_freq` the last ones are merged by TIES into one that has the least of their thresholds.

The paper's a(x) is of the outputs themselves (s is the identity), here over the tokens of prompts as in
routing; updates keep to the mask; the farthest memory answers if it reaches its own threshold.

`variant: released` is EasyEdit's code: s is the activation function of the model's MLP, and a(x) counts all
tokens of rows padded on the left, pads and target too; decay moves all weights, the masked ones as well; the
target's NLL is divided by one token too many; memories lack the matrix's bias (but for GPT-2), so that a
copy of W is already away from W; in retrieval the side memory's distance has to be exceeded even where it was
below its threshold. The release cannot apply a finished memory of a Conv1D, so that is refused. Its `replay`
of earlier edits in later memories is not here.

With `retrieve: false` all memories are merged into one, by either variant: after `merge_freq` edits, and in
the model that is run also those that have not been merged by then, once one has been full. Later edits start
from what it was before, but where they are given a state without its memory: then from what ran. The released
code merges for good when the edited model is first run.

A small Llama that is edited to say Paris (30 updates, six contexts, the same mask and other text) says it
with log p = -.15 by the paper and -.20 in the release, -1.52 before; the changes differ by .91 of their norm.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.remembering import RememberingEditor
from aftershock.editors.side_rows import EarlyEnd, SideRows, Text
from aftershock.editors.wise.merging import merge_all_waiting, merge_latest
from aftershock.editors.wise.places import appended, emptied
from aftershock.lm.edits import State
from aftershock.lm.edits.side_memory import EMPTY_MEMORY, Choice, SideMemory
from aftershock.lm.edits.whole_prompt import mean_over
from aftershock.lm.texts.tokens import Pair
from aftershock.requests import EditRequest
from aftershock.seeds import derive

OTHERS = 32  # texts of the model's own, of which each edit is kept apart from one


class Wise(RememberingEditor):
    """WISE: one delta with all memories of each case."""

    kind = SideMemory

    @property
    def case_bytes(self) -> int:
        """Bytes of one case's change: a whole matrix."""
        return self.lm.weight(self.module).numel() * self.lm.dtype.itemsize

    @property
    def released(self) -> bool:
        """True if the settings follow the released code."""
        return self.settings.variant == "released"

    @property
    def activation(self) -> str:
        """The function that outputs are compared after."""
        config = self.lm.model.config
        names = ("hidden_act", "hidden_activation", "activation_function")
        found = [getattr(config, name) for name in names if getattr(config, name, None)]
        if self.released and not found:
            raise ValueError(
                f"wise: a model of type {config.model_type} does not say its activation function where the "
                "released code looks for it; take variant: paper"
            )
        return found[0] if self.released else "linear"

    @property
    def choice(self) -> Choice:
        """The rule by which one of several memories acts."""
        if not self.settings.retrieve:
            return "merged"
        return "in_turn" if self.released else "farthest"

    def empty(self) -> SideMemory:
        """A side memory that equals the matrix."""
        weight, settings = self.lm.weight(self.module), self.settings
        thresholds = torch.full((1, 1), EMPTY_MEMORY, dtype=weight.dtype, device=weight.device)
        return SideMemory(
            module=self.module,
            activation=self.activation,
            ratio=settings.act_ratio,
            choice=self.choice,
            routing=settings.routing,
            bias=not self.released or self.lm.family.transposed,
            changes=torch.zeros(1, 1, *weight.shape, dtype=weight.dtype, device=weight.device),
            thresholds=thresholds,
            used=torch.ones_like(thresholds, dtype=torch.bool),
            edits=torch.zeros(1, dtype=torch.long, device=weight.device),
        )

    def own_part(self, memory: SideMemory) -> SideMemory:
        """The memories of one case: one that was stored has a threshold, and what pads it has none."""
        own = memory.used[0] | memory.thresholds[0].ne(0)
        own[0] = True
        places = {name: getattr(memory, name)[:, own] for name in ("changes", "thresholds", "used")}
        return replace(memory, **places)

    def write(
        self, memory: SideMemory, request: EditRequest, state: State
    ) -> tuple[SideMemory, int, list[float], dict[str, Any]]:
        """Train the side memory on one request, and store or merge it where it is full."""
        count = int(memory.edits)
        rows, counted = self._rows(request, state)
        part = self._subject_tokens(rows, request) if self.settings.apart == "subject" else None
        mask = self.draw_mask(count - count % self.settings.save_freq)
        change, away, losses, steps, parts = self._train(memory, rows, counted, part, mask, state)
        thresholds = memory.thresholds.clone()
        thresholds[0, 0] = min(thresholds[0, 0].item(), away.mean().item())
        changes = torch.cat([change[None, None], memory.changes[:, 1:]], dim=1)
        used = memory.used.clone()
        used[0, 0] = True  # also after an edit that was taken out of the state
        memory = replace(memory, changes=changes, thresholds=thresholds, used=used, edits=memory.edits + 1)
        return self._filed(memory), steps, losses, {"away": away, "change": change, "parts": parts}

    def _train(
        self,
        memory: SideMemory,
        rows: SideRows,
        counted: Tensor,
        part: Tensor | None,
        mask: Tensor,
        state: State,
    ) -> tuple[Tensor, Tensor, list[float], int, list[tuple[float, float]]]:
        """The change, the edit's distances, (contexts,), the loss at every step, its updates, and the two
        parts of each loss."""
        lm, settings = self.lm, self.settings
        weight, edited = lm.weight(self.module), rows.first(len(rows.ids) - 1)
        bias = None if memory.bias else self.bias
        change, end = memory.changes[0, 0].clone(), EarlyEnd()
        losses: list[float] = []
        parts: list[tuple[float, float]] = []
        away = change.new_zeros(0)
        for step in range(settings.steps):
            change.requires_grad_(True)
            with torch.enable_grad():
                added = rows.x @ change.T - (0.0 if bias is None else bias)
                said = edited.loss(lm, self.layer, added[:-1], state)
                moved = memory.moved(rows.y, added)
                distances = mean_over(moved, counted)
                if part is None:
                    apart = self._margins(distances[:-1], distances[-1:])
                else:
                    inner, outer = (mean_over(moved[:-1], where) for where in (part, counted[:-1] & ~part))
                    apart = self._margins(inner, outer)
                loss = said + apart
                if not end:
                    (gradient,) = torch.autograd.grad(loss, [change])
            away = distances[:-1].detach()
            losses.append(loss.item())
            parts.append((said.item(), apart.item()))
            change = change.detach()
            if end or not loss.isfinite():
                return change, away, losses, step, parts
            change -= settings.lr * self._masked(gradient, settings.weight_decay * (weight + change), mask)
            if settings.norm_constraint is not None:
                change.clamp_(-settings.norm_constraint, settings.norm_constraint)
            end.update(loss.item())
        return change, away, losses, settings.steps, parts

    def _masked(self, gradient: Tensor, decay: Tensor, mask: Tensor) -> Tensor:
        return gradient * mask + decay if self.released else (gradient + decay) * mask

    def _margins(self, edit: Tensor, other: Tensor) -> Tensor:
        """The three margins of the distances of the edit's rows and of what they are kept apart from."""
        settings = self.settings
        return (
            _mean_of_positive(other[:, None] - edit + settings.gamma)
            + _mean_of_positive(other - settings.alpha)
            + _mean_of_positive(settings.beta - edit)
        )

    def _rows(self, request: EditRequest, state: State) -> tuple[SideRows, Tensor]:
        """The request in its contexts and the other text, and the tokens that distances count."""
        pairs, other = self.pairs(request, state), self.other_text(request)
        texts = self._released_texts(pairs, len(other)) if self.released else _texts(pairs)
        texts = [*texts, Text(other, len(other))]
        rows = SideRows.of(self.lm, texts, self.layer, state, left=self.released)
        return rows, torch.ones_like(rows.prompts) if self.released else rows.prompts

    def _released_texts(self, pairs: Sequence[Pair], other: int) -> list[Text]:
        """The texts with the tokens that the released code counts as the target's.

        It takes all columns of left-padded rows from the length of the longest prompt on, which are more
        where the other text is longer than the edit's: then the first token too, which padding predicts. The
        mean counts one more, but where all prompts are single tokens the last token alone is taken.
        """
        longest = max(len(pair.prompt) for pair in pairs)
        width = max(other, *(len(pair.prompt) + len(pair.target) for pair in pairs))
        texts = []
        for pair in pairs:
            ids = (*pair.prompt, *pair.target)
            ignored = max(longest, width - len(ids))
            predicted, counted = (width - ignored, width - ignored + 1) if ignored > 1 else (1, 1)
            texts.append(Text(ids, len(pair.prompt), predicted, 1 / (counted * len(pairs))))
        return texts

    def _subject_tokens(self, rows: SideRows, request: EditRequest) -> Tensor:
        """True for the first tokens of each context's row that are the subject's, (contexts, seq)."""
        name = self.part(request)
        forms = self.lm.tokenize([f" {name}", name], add_special_tokens=False)["input_ids"]
        found = torch.zeros_like(rows.valid[:-1])
        for row, ids in enumerate(rows.ids[:-1].tolist()):
            spans = [
                range(start, start + len(form))
                for form in forms
                for start in range(len(ids) - len(form) + 1)
                if ids[start : start + len(form)] == form
            ]
            if not spans:
                raise ValueError(
                    f"wise: the tokens of {name!r} are not among those of {request.text!r}; take apart: "
                    "other_text"
                )
            found[row, list(spans[0])] = True
        return found

    def part(self, request: EditRequest) -> str:
        """The part of a request's prompt that is kept apart from the rest."""
        return request.subject

    def other_text(self, request: EditRequest) -> tuple[int, ...]:
        """The text that the request is kept apart from: one without its subject, if there is one."""
        start = derive(self.seed, "other text", request.text) % len(self._others)
        turned = [*self._others[start:], *self._others[:start]]
        apart = [ids for ids in turned if request.subject not in self.lm.tokenizer.decode(ids)]
        return (apart or turned)[0]

    @property
    def _others(self) -> list[tuple[int, ...]]:
        if not hasattr(self, "_drawn"):
            self._drawn = self.own_texts(OTHERS, self.settings.other_tokens)
        return self._drawn

    def draw_mask(self, started: int) -> Tensor:
        """Return 1 for the weights that the memory begun after `started` edits may change, (d_out, d_in)."""
        weight = self.lm.weight(self.module)
        generator = torch.Generator().manual_seed(derive(self.seed, "mask", started))
        return (torch.rand(weight.shape, generator=generator) < self.settings.mask_ratio).to(weight)

    def _filed(self, memory: SideMemory) -> SideMemory:
        """The memory with a full side memory stored, and stored ones merged where it is time."""
        settings, count = self.settings, int(memory.edits)
        if count % settings.save_freq:
            return memory
        if self.released and settings.retrieve and self.lm.family.transposed:
            raise ValueError(
                f"wise: variant released cannot use a second memory of {self.module}, a Conv1D whose bias it "
                f"leaves out; raise save_freq, {settings.save_freq}, above the number of edits, or take "
                "variant: paper"
            )
        if not settings.retrieve and memory.changes.shape[1] == 1:  # a place for the merged one
            memory = appended(memory, torch.zeros_like(memory.changes[0, 0]), EMPTY_MEMORY, used=False)
        least = memory.thresholds[0, 0].item()
        memory = emptied(
            appended(memory, memory.changes[0, 0], least, used=settings.retrieve), settings.retrieve
        )
        if count % settings.merge_freq == 0:
            memory = merge_latest(memory, settings)
        if memory.changes.shape[1] > settings.max_memories:
            raise ValueError(
                f"wise: after {count} edits a model has {memory.changes.shape[1]} memories, more than "
                f"max_memories allows ({settings.max_memories}); raise it or save_freq, or lower merge_freq"
            )
        return memory

    def as_run(self, memory: SideMemory) -> SideMemory:
        """Return the memory that the edited model runs with."""
        return merge_all_waiting(memory, self.settings)


def _mean_of_positive(values: Tensor) -> Tensor:
    positive = values[values > 0]
    return positive.mean() if len(positive) else values.new_zeros(())


def _texts(pairs: Sequence[Pair]) -> list[Text]:
    return [
        Text(
            (*pair.prompt, *pair.target),
            len(pair.prompt),
            len(pair.target),
            1 / (len(pair.target) * len(pairs)),
        )
        for pair in pairs
    ]
