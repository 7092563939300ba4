"""GRACE: replaces a module's output where its input is near that of an edit (Hartvigsen et al., 2023).

An edit's key is what the module reads at the prompt's last token, its value what the module is to put out
there, trained with Adam on the object's mean negative log-probability. A later input within a key's radius
gets the value of its nearest key. An edit near an earlier key (within its radius and that of a new key) with
the same object widens the earlier radius up to itself; with another object it splits the distance, half of it
for either.

Where the very same prompt is edited to another object there is no distance to split. The newest object then
takes the entry's place and radius, so that the model says what was edited last; the release has two keys at
one point instead, of radii 0 and below, of which the older one is found and does nothing.

Which entry replaces outputs is decided once for each row, at its prompt's end, for scoring and for generating
alike. A case's codebook is in the delta as well as in the memory, and stands for the codebooks of its earlier
edits. Its norm is that of what its values change at their keys; a random change keeps keys and radii, and has
values in random directions as far from the module's outputs.

`variant: released` is EasyEdit's code: two labels are the same where their means are, of token ids with -100
for each token of the prompt, and the label looked at may be another key's; the older half of a split distance
is 1e-5 shorter; a cold value starts from the run's seed itself, and not from one for each fact.

A small GPT-2 edited to Oslo and then to Madrid says Madrid with log p = -.31 by the paper, and with -3.07 in
the release, as if it had never been edited.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.nn import Module

from aftershock.editors.contract import Contexts, Editor, EditResult, Memory
from aftershock.editors.grace import GraceSettings
from aftershock.editors.grace.entries import IGNORED, Entry, codebook_of, entries_of, take_up
from aftershock.lm.edits import EMPTY, Codebook, Delta, State, apply_deltas, rewrite_prompts, select
from aftershock.lm.edits.codebook import Columns
from aftershock.lm.edits.state import acting
from aftershock.lm.gradients import Texts
from aftershock.lm.hooks import last_mlp_at, record_activations, start_after_layer
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest
from aftershock.seeds import derive

CPU_TOKENS = 1024  # tokens trained on together; larger batches are no faster on a CPU


class Grace(Editor):
    """GRACE; several requests of a case are written in turn, each into the codebook of those before."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: GraceSettings,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        (self.layer,) = settings.layers
        first, last = lm.family.inputs[0].format(self.layer), lm.projection(self.layer)
        self.module = first if settings.module == "input" else last
        shorter = settings.replace == "prompt" and settings.variant == "released"
        self.tokens = "before" if shorter else settings.replace

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one codebook, which includes earlier edits; without memory these come from `state`."""
        books = self._books(len(cases), state, memory)
        before = [list(entries) for entries in books]
        others = tuple(delta for delta in state if not self._is_own(delta))
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        reasons: list[str | None] = [None] * len(cases)
        diagnostics = []
        for position in range(max(map(len, cases))):
            asked = {i: case[position] for i, case in enumerate(cases) if position < len(case)}
            trace = self._write(books, asked, others)
            for row, i in enumerate(asked):
                steps[i] += self.settings.steps
                losses[i] = trace[-1, row].item()
                broken = (~trace[:, row].isfinite()).nonzero()
                if len(broken) and reasons[i] is None:
                    step = int(broken[0])
                    reasons[i] = f"the loss of the value was {trace[step, row].item()} at step {step}"
            diagnostics.append({"losses": trace, "entries": [list(books[i]) for i in asked]})
        book = self._codebook(
            [entries if reason is None else [] for entries, reason in zip(books, reasons, strict=True)]
        )
        known = book
        if any(reason is not None for reason in reasons):  # it leaves a case as it was
            sound = zip(books, before, reasons, strict=True)
            known = self._codebook([entries if reason is None else old for entries, old, reason in sound])
        return EditResult(
            (book,), tuple(steps), tuple(losses), tuple(reasons), known.tensors(), tuple(diagnostics)
        )

    def _is_own(self, delta: Delta) -> TypeGuard[Codebook]:
        return isinstance(delta, Codebook) and delta.module == self.module

    def _books(self, n: int, state: State, memory: Memory | None) -> list[list[Entry]]:
        """The entries of each case before an edit."""
        own = [delta for delta in acting(state) if self._is_own(delta)]
        if memory is not None:
            own = [Codebook(self.module, self.tokens, self.settings.distance, **memory)]
        return [entries_of(own[-1].to(self.lm.device), case) if own else [] for case in range(n)]

    def _codebook(self, books: Sequence[Sequence[Entry]]) -> Codebook:
        d_out, d_in = self.lm.weight(self.module).shape
        like = torch.empty(0, dtype=self.lm.dtype, device=self.lm.device)
        return codebook_of(books, self.module, self.tokens, self.settings.distance, d_in, d_out, like)

    def _write(self, books: Sequence[list[Entry]], asked: Mapping[int, EditRequest], state: State) -> Tensor:
        """Write request `asked[i]` into `books[i]`; return the losses at every step, (steps, requests)."""
        lm, requests, cases = self.lm, list(asked.values()), list(asked)
        prompts = rewrite_prompts(lm, state, [request.text for request in requests], cases)
        pairs = encode_pairs(lm, list(zip(prompts, [r.target_new for r in requests], strict=True)))
        widths = [len(pair.prompt) + len(pair.target) - 1 for pair in pairs]
        order = sorted(range(len(pairs)), key=widths.__getitem__)
        per_token = token_bytes(lm, lm.n_layers - self.layer, lm.context, backward=True)
        scored = 4 * lm.model.config.vocab_size * lm.dtype.itemsize
        costs = [widths[i] * per_token + len(pairs[i].target) * scored for i in order]
        traces = torch.zeros(self.settings.steps, len(pairs))

        def run(part: range) -> None:
            rows = order[part.start : part.stop]
            mine = {cases[i]: (requests[i], pairs[i]) for i in rows}
            traces[:, rows] = self._train(books, mine, state)

        run_in_parts(costs, batch_limit(lm, per_token, CPU_TOKENS), run, "training values")
        return traces

    def _train(
        self, books: Sequence[list[Entry]], asked: Mapping[int, tuple[EditRequest, Pair]], state: State
    ) -> Tensor:
        """Add edits to `books`, and train their values in one batch."""
        lm, n = self.lm, len(asked)
        cases = list(asked)
        state = select(state, cases)
        texts = Texts.of(lm, [pair for _, pair in asked.values()], range(n))
        below = lm.layer(self.layer - 1) if self.layer else None
        with (
            torch.no_grad(),
            apply_deltas(lm, state, texts.batch),
            record_activations(lm, outputs=[below] if below else [], stop=self.module) as seen,
        ):
            lm.run(texts.ids, texts.mask, use_cache=False)
        every, ends = torch.arange(n, device=lm.device), texts.batch.prompt_ends
        keys, outputs = (seen[part, self.module][every, ends] for part in ("in", "out"))
        hidden = seen["out", below] if below else None
        before = {i: list(books[i]) for i in cases}
        chosen: list[int | None] = []
        try:
            for row, (i, (request, pair)) in enumerate(asked.items()):
                label = (*[IGNORED] * len(pair.prompt), *pair.target)
                start = self._starts(request, outputs[row])
                chosen.append(take_up(books[i], keys[row], outputs[row], label, start, self.settings))
            values = torch.stack(
                [
                    outputs[row] if at is None else books[i][at].value
                    for row, (i, at) in enumerate(zip(cases, chosen, strict=True))
                ]
            )
            fires = torch.tensor([at is not None for at in chosen], device=lm.device)
            trained, trace = self._fit(values.clone(), fires, texts, hidden, state)
        except BaseException:
            for i in cases:  # a part that ran out of memory is tried again
                books[i][:] = before[i]
            raise
        for row, (i, at) in enumerate(zip(cases, chosen, strict=True)):
            if at is not None:
                books[i][at] = replace(books[i][at], value=trained[row])
        return trace

    def _starts(self, request: EditRequest, output: Tensor) -> Any:
        """Return a function that makes the initial value of training."""

        def start() -> Tensor:
            if self.settings.init == "warm":
                return output
            seed = self.seed
            if self.settings.variant == "paper":
                seed = derive(self.seed, "value", request.text, request.target_new)
            drawn = torch.rand(1, len(output), generator=torch.Generator().manual_seed(seed))
            return drawn[0].to(output)

        return start

    def _fit(
        self, values: Tensor, fires: Tensor, texts: Texts, hidden: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor]:
        """The values after all updates, and the losses before each, (steps, rows)."""
        settings, trace = self.settings, []
        values.requires_grad_(True)
        adam = torch.optim.Adam([values], lr=settings.lr)  # elementwise, so that rows stay independent
        for _ in range(settings.steps):
            with torch.enable_grad(), self._losses(values, fires, texts, hidden, state) as losses:
                (values.grad,) = torch.autograd.grad(losses.sum(), [values])
            trace.append(losses.detach().float().cpu())
            adam.step()
        return values.detach(), torch.stack(trace)

    @contextmanager
    def _losses(
        self, values: Tensor, fires: Tensor, texts: Texts, hidden: Tensor | None, state: State
    ) -> Iterator[Tensor]:
        """Mean negative log-probability of each row's target tokens with its value in place, (rows,)."""
        lm = self.lm
        columns = Columns(texts.batch, self.tokens)

        def hook(module: Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            where = columns.of_pass(output.shape[1]).to(output.device) & fires[:, None].to(output.device)
            return torch.where(where[..., None], values[:, None].to(output), output)

        above = last_mlp_at(lm, texts.read, texts.valid.to(lm.dtype), state)
        with apply_deltas(lm, state, texts.batch), start_after_layer(lm, self.layer - 1, hidden):
            handle = lm.model.get_submodule(self.module).register_forward_hook(hook)
            try:
                with above if self.layer < lm.n_layers - 1 else nullcontext(), lm.reduced():
                    out = lm.run(texts.ids, texts.mask, use_cache=False)
            finally:
                handle.remove()
            index = texts.read[..., None].expand(-1, -1, out.shape[-1])
            logits = lm.logits(out.gather(1, index))
            log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
            found = log_p.gather(2, texts.tokens[..., None])[..., 0].where(texts.valid, 0.0)
            yield -found.sum(dim=1) / texts.valid.sum(dim=1)
