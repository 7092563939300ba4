"""CrispEdit: fine-tuning with gradients projected away from high curvature (arXiv 2602.15823).

With the Kronecker factors A = U_a S_a U_a^T and B = U_b S_b U_b^T of a matrix's curvature on text

    c_ij = s_b,i s_a,j,   M_ij = 1 where c_ij < tau,   G <- U_b [(U_b^T G U_a) o M] U_a^T

where tau is the value of c at which the running share of the sorted ones reaches gamma. The loss is the mean
over the target tokens of an update. Adam gets the projected gradient, and divides each of its entries by its
size, so that the step is no longer inside the subspace; `project: step` projects it once more. On a Llama of
four layers whose edits were recorded (eight requests, two passes, gamma .8) .14 of the change's norm is
outside with `gradient`, and 4e-7 with `step`; the two changes differ by .14 of their norm.

A later edit of a case merges the factors of earlier edits' target tokens into those of text, by the number of
tokens, and starts from Adam's moments, the first of which is projected anew. Not here: factors that are
measured again once the weights have changed by a quarter of their norm, which is off in the released
settings; and its token [PAD], whose row of random numbers in the head takes part in the softmax.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from aftershock.editors.conflicts import name_conflicts
from aftershock.editors.contract import Editor, EditResult, Memory
from aftershock.editors.crispedit.curvature import Factors, Projection, measure, read_rows
from aftershock.editors.fine_tuning import (
    Schedule,
    Training,
    Weights,
    run_cases_in_parts,
    train,
    update_cost,
)
from aftershock.editors.training_batch import (
    Entry,
    Example,
    TrainingBatch,
    encode_examples,
    read_below,
)
from aftershock.lm.edits import EMPTY, State, select
from aftershock.lm.generation import sample
from aftershock.lm.texts.beginning import opening_ids
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest
from aftershock.seeds import derive

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of Adam


class CrispEdit(Editor):
    """Cases train side by side, each with weights of its own."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """One matrix per layer."""
        name_conflicts(cases)
        pairs = [self.pairs(case) for case in cases]
        kept: dict[int, dict[str, Tensor]] = {}

        def run(chosen: Sequence[int], start: State, checkpoint: bool) -> EditResult:
            known = memory and {name: tensor[list(chosen)] for name, tensor in memory.items()}
            result, learnt = self._train([pairs[i] for i in chosen], start, checkpoint, known)
            for row, i in enumerate(chosen):
                kept[i] = {name: tensor[row] for name, tensor in learnt.items()}
            return result

        result = run_cases_in_parts(self.lm, [self._size(case) for case in pairs], state, run, "crispedit")
        if not self.settings.remember_edits:
            return result
        names = kept[0].keys()
        found = {
            name: torch.nn.utils.rnn.pad_sequence(
                [kept[i][name] for i in range(len(cases))], batch_first=True
            )
            if name.startswith(("inputs", "gradients"))
            else torch.stack([kept[i][name] for i in range(len(cases))])
            for name in names
        }
        return replace(result, memory=found)

    def order(self, n: int, epoch: int) -> Sequence[int]:
        """The order in which a pass takes the n requests of a case; the same for all cases of that size."""
        draw = torch.Generator().manual_seed(derive(self.seed, "crispedit", epoch))
        return torch.randperm(n, generator=draw).tolist()

    @cached_property
    def factors(self) -> dict[str, Factors]:
        """The curvature of each trained matrix on texts that the model writes."""
        return measure(self.lm, self.texts, self.changed_modules)

    @cached_property
    def texts(self) -> list[list[int]]:
        """The tokens of these texts."""
        settings = self.settings
        start = opening_ids(self.lm.tokenizer, self.lm.document_token)
        length = min(settings.document_tokens, self.lm.context)
        seed = derive(self.seed, "crispedit", "texts")
        written = sample(self.lm, start, length, settings.documents, self.lm.model.config.vocab_size, seed)
        encoded = self.lm.encode(written)  # which may put the token at the start back
        return [(ids if tuple(ids[:1]) == start[:1] else [*start, *ids])[:length] for ids in encoded]

    @property
    def case_bytes(self) -> int:
        """A whole matrix for each layer."""
        return self._numbers * self.lm.dtype.itemsize

    @property
    def _numbers(self) -> int:
        return sum(self.lm.weight(module).numel() for module in self.changed_modules)

    def pairs(self, case: Sequence[EditRequest]) -> list[Pair]:
        """Return the tokens of a case's requests."""
        pairs = encode_pairs(self.lm, [(request.text, request.target_new) for request in case])
        if not self.settings.append_eos:
            return pairs
        if (end := self.lm.tokenizer.eos_token_id) is None:
            raise ValueError("append_eos: this tokenizer has no end-of-text token; set append_eos: false")
        pairs = [replace(pair, target=(*pair.target, end)) for pair in pairs]
        for pair, request in zip(pairs, case, strict=True):
            self.lm.check_length([*pair.prompt, *pair.target], request.text)
        return pairs

    def projections(self, memory: Memory | None) -> dict[str, Projection]:
        """Return the projection of each module, of each case where a memory has earlier edits."""
        found = {}
        for module in self.changed_modules:
            factors = [self.factors[module]]
            if memory is not None:
                rows = zip(memory[f"inputs.{module}"], memory[f"gradients.{module}"], strict=True)
                factors = [self.factors[module].merged(a, g) for a, g in rows]
            found[module] = Projection.of(factors, self.settings.energy)
        return found

    def _size(self, case: Sequence[Pair]) -> tuple[int, int]:
        """Tokens and bytes of an update."""
        width = max(len(pair.prompt) + len(pair.target) - 1 for pair in case)
        targets, layers = max(len(p.target) for p in case), self.lm.n_layers - min(self.settings.layers)
        rows = min(len(case), self.settings.batch_size)
        return update_cost(self.lm, self._numbers, layers, rows, width, targets)

    def _train(
        self, cases: Sequence[Sequence[Pair]], state: State, checkpoint: bool, memory: Memory | None
    ) -> tuple[EditResult, dict[str, Tensor]]:
        """The edit of some cases, and what the next one needs."""
        settings, projections = self.settings, self.projections(memory)
        training = Training(
            [(module, "weight") for module in self.changed_modules],
            settings.steps,
            settings.lr,
            [settings.weight_decay] * len(cases),
            project=projections,
            project_step=settings.project == "step",
        )
        sizes = [len(case) for case in cases]
        batch = encode_examples(self.lm, [[Example.in_turn(pair) for pair in case] for case in cases])
        batch = read_below(self.lm, batch, Entry.below(self.lm, training.modules), state)
        schedule = Schedule(
            sizes,
            lambda epoch: self._updates(sizes, epoch),
            lambda rows, chosen: by_token(batch.rows(rows, chosen)),
        )
        weights = Weights(self.lm, training, len(cases), state, checkpoint)
        if memory is not None:
            self._resume(weights, memory, projections)
        result = train(self.lm, training, schedule, state, checkpoint, weights)
        if not settings.remember_edits:
            return result, {}
        return result, self._learnt(cases, weights, result, state, memory)

    def _updates(self, sizes: Sequence[int], epoch: int) -> list[list[Sequence[int]]]:
        """The requests of every case in each update of a pass."""
        orders = {n: list(self.order(n, epoch)) for n in set(sizes)}
        starts = range(0, max(sizes), self.settings.batch_size)
        return [[orders[n][start : start + self.settings.batch_size] for n in sizes] for start in starts]

    def _resume(self, weights: Weights, memory: Memory, projections: Mapping[str, Projection]) -> None:
        """Give Adam the moments of a memory, the first of which is projected."""
        for module in self.changed_modules:
            step, first, second = (memory[f"{name}.{module}"].to(self.lm.device) for name in MOMENTS)
            every = torch.arange(len(step), device=self.lm.device)
            first = projections[module](first, every)
            for i, views in enumerate(weights.views):
                if step[i] > 0:
                    kept = {"step": step[i].clone(), "exp_avg": first[i].clone()}
                    weights.adam.state[views[module, "weight"]] = kept | {"exp_avg_sq": second[i].clone()}

    def _learnt(
        self,
        cases: Sequence[Sequence[Pair]],
        weights: Weights,
        result: EditResult,
        state: State,
        memory: Memory | None,
    ) -> dict[str, Tensor]:
        """Adam's moments, and the rows of earlier edits' and these targets on the edited weights.

        A case that failed has those from before.
        """
        sound = [i for i, reason in enumerate(result.reasons) if reason is None]
        rows = self._rows([cases[i] for i in sound], select(state + result.delta, sound)) if sound else {}
        found: dict[str, Tensor] = {}
        for module in self.changed_modules:
            d_out, d_in = self.lm.weight(module).shape
            kept: dict[str, list[Tensor]] = {name: [] for name in (*MOMENTS, "inputs", "gradients")}
            for i, views in enumerate(weights.views):
                view = views[module, "weight"]
                before = {} if memory is None else {name: memory[f"{name}.{module}"][i] for name in kept}
                none = {"step": view.new_zeros((), dtype=torch.float32)}
                none |= dict.fromkeys(("exp_avg", "exp_avg_sq"), torch.zeros_like(view))
                now = weights.adam.state.get(view) if i in sound else None
                for name in MOMENTS:
                    kept[name].append((now or before or none)[name].clone())
                new = (
                    rows[module][sound.index(i)]
                    if i in sound
                    else (view.new_zeros(0, d_in), view.new_zeros(0, d_out))
                )
                for name, part in zip(("inputs", "gradients"), new, strict=True):
                    kept[name].append(torch.cat([before[name], part.double()]) if before else part.double())
            for name, parts in kept.items():
                pad = name in ("inputs", "gradients")
                joined = (
                    torch.nn.utils.rnn.pad_sequence(parts, batch_first=True) if pad else torch.stack(parts)
                )
                found[f"{name}.{module}"] = joined
        return found

    def _rows(self, cases: Sequence[Sequence[Pair]], state: State) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """a and g of each case's target tokens in `state`, by module."""
        owner = torch.tensor([i for i, case in enumerate(cases) for _ in case], device=self.lm.device)
        pairs = [pair for case in cases for pair in case]
        found = {}
        for module, (a, g, rows) in read_rows(
            self.lm, pairs, owner.tolist(), self.changed_modules, state
        ).items():
            mine = owner[rows]
            found[module] = [(a[mine == i], g[mine == i]) for i in range(len(cases))]
        return found


def by_token(batch: TrainingBatch) -> TrainingBatch:
    """Return the batch with a loss that is the mean over the target tokens of all rows of a case."""
    counted = (batch.shares > 0).to(batch.shares)
    sums = counted.new_zeros(int(batch.cases.max()) + 1)
    tokens = sums.index_add(0, batch.cases, counted.sum(dim=1))
    rows = sums.index_add(0, batch.cases, torch.ones_like(counted[:, 0]))
    return replace(batch, shares=counted * (rows / tokens)[batch.cases, None])
