"""LocFT-BF: localised fine-tuning, breadth first (arXiv:2509.22072).

The loss of a request is the mean negative log-probability of its target's tokens, with the end-of-text token
behind them unless `append_eos` is false; that of an update is the mean over its requests. Each pass over the
requests of a case shuffles them anew, by the editor's seed and the number of the pass.

`variant: released` does what the released code does around that. It adds a token [PAD], so that the end of a
text is not masked as padding: its random row in the head takes part in every softmax. And it pads on the left
without telling the model, which shifts the positions of shorter texts where positions are absolute, as in
GPT-2. On random models of three layers (tests/test_locft.py) the changes that six requests make differ
between the variants by .92 of their norm for GPT-2, and by 2e-4 for a Llama, whose positions are relative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from aftershock.editors.conflicts import name_conflicts
from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.fine_tuning import (
    Parameter,
    Schedule,
    Training,
    run_cases_in_parts,
    train,
    update_cost,
)
from aftershock.editors.training_batch import (
    Entry,
    Example,
    TrainingBatch,
    encode_examples,
    of_cases,
    read_below,
)
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest
from aftershock.seeds import derive

SPREAD = 1e-9  # of added rows around the mean of the others, relative to the others' (transformers)


@dataclass(frozen=True)
class AddedRow:
    """The head's row of a token that was added to the vocabulary, and its bias where the head has one."""

    weight: Tensor  # (d,)
    bias: Tensor | None = None  # ()

    def __call__(self, hidden: Tensor) -> Tensor:
        """The token's score at hidden states (..., d), (..., 1)."""
        score = hidden @ self.weight.to(hidden)[:, None]
        return score if self.bias is None else score + self.bias.to(hidden)


class LocFt(Editor):
    """LocFT-BF of cases in one batch, each with weights of its own."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta per trained module."""
        name_conflicts(cases)
        pairs = [self._pairs(case) for case in cases]

        def run(chosen: Sequence[int], start: State, checkpoint: bool) -> EditResult:
            return self._train([pairs[i] for i in chosen], start, checkpoint)

        return run_cases_in_parts(self.lm, [self._size(case) for case in pairs], state, run, "locft")

    def order(self, n: int, epoch: int) -> Sequence[int]:
        """The order in which a pass takes the n requests of a case; the same for all cases of that size."""
        draw = torch.Generator().manual_seed(derive(self.seed, "locft", epoch))
        return torch.randperm(n, generator=draw).tolist()

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The trained weights and biases; ValueError for a layer with parameters of another kind."""
        found: list[Parameter] = []
        for layer in sorted(self.settings.layers):
            if self.settings.parameters == "mlp_out":
                found.append((self.lm.projection(layer), "weight"))
                continue
            inside = self.lm.layer(layer)
            for name, _ in self.lm.model.get_submodule(inside).named_parameters():
                module, _, part = f"{inside}.{name}".rpartition(".")
                if part not in ("weight", "bias"):
                    raise ValueError(
                        f"parameters: layer cannot train {inside}.{name}, which is neither weight nor bias "
                        "of a matrix or norm; take parameters: mlp_out"
                    )
                found.append((module, part))
        return found

    @cached_property
    def added(self) -> AddedRow:
        """The head's row of [PAD] as transformers initialises it: close to the mean of all rows."""
        head = self.lm.model.get_output_embeddings()
        draw = torch.Generator().manual_seed(derive(self.seed, "locft", "[PAD]"))
        weight = head.weight.detach().double().cpu()
        noise = torch.randn(len(weight), generator=draw, dtype=torch.float64)
        mean = weight.mean(dim=0)
        row = mean + (SPREAD / len(weight)) ** 0.5 * (noise @ (weight - mean))
        bias = getattr(head, "bias", None)
        return AddedRow(row.to(self.lm.device), None if bias is None else bias.detach().mean())

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """The trained modules."""
        return tuple(dict.fromkeys(module for module, _ in self.parameters))

    @property
    def case_bytes(self) -> int:
        """A whole matrix, or layer, for each trained layer."""
        return self._numbers * self.lm.dtype.itemsize

    @cached_property
    def _numbers(self) -> int:
        return sum(self.lm.model.get_parameter(f"{name}.{part}").numel() for name, part in self.parameters)

    def _pairs(self, case: Sequence[EditRequest]) -> list[Pair]:
        pairs = encode_pairs(self.lm, [(request.text, request.target_new) for request in case])
        if not self.settings.append_eos:
            return pairs
        if (end := self.lm.tokenizer.eos_token_id) is None:
            raise ValueError("append_eos: this tokenizer has no end-of-text token; set append_eos: false")
        pairs = [replace(pair, target=(*pair.target, end)) for pair in pairs]
        for pair, request in zip(pairs, case, strict=True):
            self.lm.check_length([*pair.prompt, *pair.target], request.text)
        return pairs

    def _size(self, case: Sequence[Pair]) -> tuple[int, int]:
        """Tokens and bytes of an update."""
        width = max(len(pair.prompt) + len(pair.target) - 1 for pair in case)
        targets, layers = max(len(p.target) for p in case), self.lm.n_layers - min(self.settings.layers)
        rows = min(len(case), self.settings.batch_size)
        return update_cost(self.lm, self._numbers, layers, rows, width, targets)

    def _train(self, cases: Sequence[Sequence[Pair]], state: State, checkpoint: bool) -> EditResult:
        settings, released = self.settings, self.settings.variant == "released"
        training = Training(
            self.parameters,
            settings.steps,
            settings.lr,
            [settings.weight_decay] * len(cases),
            extra=self.added if released else None,
        )
        entry = Entry.below(self.lm, training.modules)
        batch = encode_examples(self.lm, [[Example.in_turn(pair) for pair in case] for case in cases])
        if not released:
            batch = read_below(self.lm, batch, entry, state)
        lengths = torch.tensor([len(p.prompt) + len(p.target) for case in cases for p in case])

        def read_shifted(rows: Tensor, chosen: Tensor) -> TrainingBatch:
            owners = batch.cases[rows]
            some = batch.rows(rows, chosen)
            shift = _padding_before(lengths.to(owners)[rows], chosen)
            if self.lm.family.shown_positions:
                shift = torch.zeros_like(shift)
            places = torch.arange(some.ids.shape[1], device=owners.device)
            some = replace(some, positions=shift[:, None] + places)
            mine = of_cases(state, owners.unique_consecutive(), len(cases))
            return read_below(self.lm, some, entry, mine)

        schedule = Schedule(
            [len(case) for case in cases],
            lambda epoch: self._updates([len(case) for case in cases], epoch),
            read_shifted if released else batch.rows,
        )
        return train(self.lm, training, schedule, state, checkpoint)

    def _updates(self, sizes: Sequence[int], epoch: int) -> list[list[Sequence[int]]]:
        """The requests of every case in each update of a pass."""
        orders = {n: list(self.order(n, epoch)) for n in set(sizes)}
        starts = range(0, max(sizes), self.settings.batch_size)
        return [[orders[n][start : start + self.settings.batch_size] for n in sizes] for start in starts]


def _padding_before(lengths: Tensor, cases: Tensor) -> Tensor:
    """The padding before each row where the rows of a case are padded on the left to their longest one."""
    longest = torch.stack([lengths[cases == case].max() for case in cases.unique().tolist()])
    return longest[cases] - lengths
