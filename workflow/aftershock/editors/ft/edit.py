"""FT: fine-tuning MLP output projections on the edit alone, optionally within a box around the old weights.

The released code (`objective: prompt_last`) reads all tokens of a target at the prompt's last position, so
that only the first can be learned; `target_new` reads each where it belongs. Both train weight and bias with
Adam, skip a step whose loss is below 0.01, and stop after a pass over the requests whose mean loss is below
it.

With `target_ids: released` as well, `prompt_last` takes the released code's targets: all that the tokenizer
makes of a target, a token that begins texts included, padded to the longest of the batch. Of these it leaves
out no more than the token for what is unknown, so that padding is trained wherever that is another token.

EasyEdit's `target_new` (FT-M) pads the texts of an update to one length and takes a text's padding for a part
of its prompt, wherever it stands. On the left a target's tokens are found all the same, and only their
positions are shifted, where these are absolute (`padding: left`). On the right, of a text that is p tokens
shorter than the longest one, the target's first p tokens are not learned, and p of padding are in their place
(`padding: right`). The side is that of the tokenizer that the release is given.
"""

import math
from collections.abc import Sequence
from functools import cached_property

from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.fine_tuning import (
    Parameter,
    Schedule,
    Training,
    run_cases_in_parts,
    train,
    update_cost,
)
from aftershock.editors.ft import BOX_SHARE
from aftershock.editors.training_batch import Entry, Example, encode_examples, read_below
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.prompts import following
from aftershock.requests import EditRequest


class Ft(Editor):
    """FT of cases in one batch, each with weights of its own."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one dense delta per layer."""

        def run(chosen: Sequence[int], start: State, checkpoint: bool) -> EditResult:
            return self._train([cases[i] for i in chosen], start, checkpoint)

        return run_cases_in_parts(self.lm, [self._size(case) for case in cases], state, run, "fine-tuning")

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The trained matrices, with their biases."""
        names = [self.lm.projection(layer) for layer in sorted(self.settings.layers)]
        parts = {
            name: ("weight", "bias") if self.lm.bias(name) is not None else ("weight",) for name in names
        }
        return [(name, part) for name in names for part in parts[name]]

    @cached_property
    def boxes(self) -> dict[str, float]:
        """The largest change of a single weight of each trained matrix, and of its bias; none without one."""
        box, names = self.settings.norm_constraint, map(self.lm.projection, self.settings.layers)
        if box is None:
            return {}
        if box != "auto":
            return dict.fromkeys(names, box)
        return {name: BOX_SHARE * float(self.lm.weight(name).square().mean().sqrt()) for name in names}

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """The box by layer, where it is measured."""
        if self.settings.norm_constraint != "auto":
            return {}
        return {"norm_constraint": {self.lm.layer_of(name): box for name, box in self.boxes.items()}}

    @property
    def case_bytes(self) -> int:
        """A whole matrix for each layer."""
        return self._numbers * self.lm.dtype.itemsize

    @property
    def _numbers(self) -> int:
        return sum(self.lm.weight(self.lm.projection(layer)).numel() for layer in self.settings.layers)

    def _size(self, case: Sequence[EditRequest]) -> tuple[int, int]:
        """Tokens and bytes of an update."""
        pairs = encode_pairs(self.lm, [(request.text, request.target_new) for request in case])
        width = max(len(pair.prompt) + len(pair.target) - 1 for pair in pairs)
        targets, layers = (
            max(len(pair.target) for pair in pairs),
            self.lm.n_layers - min(self.settings.layers),
        )
        rows = min(len(case), self.settings.batch_size)
        return update_cost(self.lm, self._numbers, layers, rows, width, targets)

    def _decay(self, case: Sequence[EditRequest]) -> float:
        if self.settings.wd_power_law is None:
            return self.settings.weight_decay
        a, b = self.settings.wd_power_law
        return len(case) ** a * math.exp(b)

    def _train(self, cases: Sequence[Sequence[EditRequest]], state: State, checkpoint: bool) -> EditResult:
        settings, size = self.settings, self.settings.batch_size
        training = Training(
            self.parameters, settings.steps, settings.lr, [self._decay(case) for case in cases], self.boxes
        )
        batch = encode_examples(self.lm, [self._examples(case) for case in cases])
        batch = read_below(self.lm, batch, Entry.below(self.lm, training.modules), state)
        starts = range(0, max(map(len, cases)), size)
        updates = [[range(len(case))[start : start + size] for case in cases] for start in starts]
        schedule = Schedule([len(case) for case in cases], lambda epoch: updates, batch.rows)
        return train(self.lm, training, schedule, state, checkpoint)

    def _examples(self, case: Sequence[EditRequest]) -> list[Example]:
        """The requests of a case as training examples."""
        size = self.settings.batch_size
        parts = [case[start : start + size] for start in range(0, len(case), size)]
        return [example for part in parts for example in self._together(part)]

    def _together(self, requests: Sequence[EditRequest]) -> list[Example]:
        """The requests of one update as training examples."""
        pairs = encode_pairs(self.lm, [(request.text, request.target_new) for request in requests])
        if self.settings.objective == "prompt_last":
            if self.lm.target_ids == "released":
                targets = released_targets(self.lm, requests)
            else:
                targets = [(list(p.target), [1.0 / len(p.target)] * len(p.target)) for p in pairs]
            return [Example.at_once(pair, *target) for pair, target in zip(pairs, targets, strict=True)]
        lengths = [len(pair.prompt) + len(pair.target) for pair in pairs]
        if self.settings.padding == "right":
            return [Example.padded(pair, max(lengths), self.lm.pad_id) for pair in pairs]
        shifted = self.settings.padding == "left" and not self.lm.family.shown_positions
        before = max(lengths) if shifted else 0
        return [
            Example.in_turn(pair, max(0, before - length))
            for pair, length in zip(pairs, lengths, strict=True)
        ]


def released_targets(
    lm: LanguageModel, requests: Sequence[EditRequest]
) -> list[tuple[list[int], list[float]]]:
    """Target tokens of requests trained on together, and their shares of the loss, as in the released code.

    Counted is whatever is not the token for what is unknown: all, padding included, if there is none.
    """
    rows = lm.tokenize([following(r.prompt, r.target_new) for r in requests])["input_ids"]
    width, unknown = max(map(len, rows)), lm.tokenizer.unk_token_id
    found = []
    for row in rows:
        tokens = [*row, *[lm.pad_id] * (width - len(row))]
        counted = [token != unknown for token in tokens]
        total = sum(counted)
        found.append((tokens, [c / total if total else math.nan for c in counted]))
    return found
