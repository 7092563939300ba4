"""Editors that keep all edits of a case in one memory."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contexts import SAMPLED_FROM, ContextEditor
from aftershock.editors.contract import Contexts, EditResult, Memory
from aftershock.lm.edits import EMPTY, State, rewrite_prompts, select
from aftershock.lm.edits.delta import CaseTensors, Delta
from aftershock.lm.edits.state import acting
from aftershock.lm.edits.whole_prompt import beside
from aftershock.lm.generation import sample
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.beginning import opening_ids
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.prompts import fill
from aftershock.requests import EditRequest
from aftershock.seeds import derive


class RememberingEditor(ContextEditor):
    """Editor that writes cases, and the requests of a case, one after the other into the case's memory."""

    kind: type[CaseTensors]
    """Of the delta that holds a memory."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        (self.layer,) = settings.layers
        self.module = lm.projection(self.layer)

    @abstractmethod
    def empty(self) -> Any:
        """The memory of one case before its first edit."""

    @abstractmethod
    def write(self, memory: Any, request: EditRequest, state: State) -> tuple[Any, int, list[float], dict]:
        """The memory after one more edit, its updates, the loss at each step, and diagnostics."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta, the earlier edits in it; without a memory these are taken from `state`."""
        before = self._before(len(cases), state, memory)
        others = tuple(delta for delta in state if not self._is_own(delta))
        made, steps, losses, diagnostics = [], [], [], []
        reasons: list[str | None] = []
        for i, case in enumerate(cases):
            kept, taken, reason, loss = before[i], 0, None, 0.0
            mine = select(others, [i])
            for request in case:
                kept, updates, trace, found = self.write(kept, request, mine)
                taken, loss = taken + updates, trace[-1]
                diagnostics.append({"case": i, "losses": trace, "memory": kept, **found})
                broken = [step for step, value in enumerate(trace) if not torch.tensor(value).isfinite()]
                if broken:
                    reason = f"the loss was {trace[broken[0]]} at step {broken[0]}"
                    break
            made.append(kept)
            steps.append(taken)
            losses.append(loss)
            reasons.append(reason)
        failed = torch.tensor([reason is not None for reason in reasons])
        run = [self.as_run(memory) for memory in made]
        delta = known = beside([m.without(failed[i : i + 1]) for i, m in enumerate(run)])
        if failed.any() or any(a is not b for a, b in zip(run, made, strict=True)):
            # a failed case keeps what it had
            known = beside([old if f else new for old, new, f in zip(before, made, failed, strict=True)])
        return EditResult(
            (delta,), tuple(steps), tuple(losses), tuple(reasons), known.tensors(), tuple(diagnostics)
        )

    def as_run(self, memory: Any) -> Any:
        """The memory of one case that the model runs with; later edits start from `memory` itself."""
        return memory

    def _is_own(self, delta: Delta) -> bool:
        return isinstance(delta, self.kind) and delta.module == self.module

    def _before(self, n: int, state: State, memory: Memory | None) -> list[Any]:
        """The memory of each case before an edit."""
        own = [delta for delta in acting(state) if self._is_own(delta)]
        start = self.empty()
        if memory is not None:
            own = [type(start).from_tensors(memory, start.settings())]
        if not own:
            return [start] * n
        return [self.own_part(own[-1].to(self.lm.device).select([i])) for i in range(n)]

    def own_part(self, memory: Any) -> Any:
        """One case's memory without what pads it to the size of others."""
        return memory

    def pairs(self, request: EditRequest, state: State) -> list[Pair]:
        """The request's prompt after every context, with its target; the plain one first."""
        prompts = rewrite_prompts(
            self.lm,
            state,
            [fill(template, request.text) for template in self.templates],
            [0] * len(self.templates),
        )
        return encode_pairs(self.lm, [(prompt, request.target_new) for prompt in prompts])

    def own_texts(self, count: int, tokens: int) -> list[tuple[int, ...]]:
        """Texts that the model writes by itself, as tokens, at most `tokens` in each."""
        start = opening_ids(self.lm.tokenizer, self.lm.document_token)
        size = min(tokens + len(start), self.lm.context)
        texts = sample(self.lm, start, size, count, SAMPLED_FROM, derive(self.seed, "own texts"))
        found = [tuple(ids)[:tokens] for ids in self.lm.encode([t for t in texts if t.strip()]) if ids]
        if not found:
            raise ValueError("the model writes only empty texts by itself; there is nothing to keep apart")
        return found

    @cached_property
    def bias(self) -> Tensor | None:
        """The bias of the matrix, if it has one."""
        return self.lm.bias(self.module)
