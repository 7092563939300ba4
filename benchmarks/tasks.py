"""The tasks of `bench`: edits and scorings, each by the plain path, one case, and by the engine, B cases."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aftershock.editors import fine_tuning
from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.edits import LowRank, State, select
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.optimisation import values
from aftershock.lm.scoring import score
from aftershock.requests import Query
from benchmarks import models
from benchmarks.measure import Clock
from benchmarks.plain import Plain
from benchmarks.plain_mend import mend

EDITS, SCORES = ("ft", "rome", "memit", "mend"), {"score-1": 1, "score-5": 5}
PROMPTS = 11  # the edit's own and ten paraphrases


@dataclass(frozen=True)
class Found:
    """Results of a run for comparison: updates, changes and log-probabilities of each case."""

    updates: list[int] = field(default_factory=list)
    changes: list[list[Tensor]] = field(default_factory=list)
    logprobs: list[list[float]] = field(default_factory=list)


@contextmanager
def no_early_stop() -> Iterator[None]:
    """Inside, the engine makes as many updates as its settings allow, as the plain path of a task does."""
    before = values.ENOUGH, fine_tuning.ENOUGH
    values.ENOUGH = fine_tuning.ENOUGH = -math.inf
    try:
        yield
    finally:
        values.ENOUGH, fine_tuning.ENOUGH = before


class Edits:
    """One method's edits of the first n of a model's cases.

    What is made once per model is made before anything is timed: inverse or factor of the second moments,
    contexts, the hypernetwork.
    """

    def __init__(
        self,
        lm: LanguageModel,
        size: models.Size,
        method: str,
        n: int,
        steps: int | None,
        texts: models.Texts = models.DRAWN,
    ) -> None:
        self.lm, self.method, self.requests = lm, method, texts.requests(n)
        layers = size.layers["rome" if method == "mend" else method]
        if method == "mend":
            layers = range(lm.n_layers - min(3, lm.n_layers - 1), lm.n_layers)  # the last three, as published
        changes = {**size.settings.get(method, {}), "layers": tuple(layers)}
        if method != "mend" and steps:
            changes["steps"] = steps
        self.settings = settings_of(method, changes)
        self.steps = getattr(self.settings, "steps", 1)
        whitened = method in ("rome", "memit")
        contexts = texts.contexts(method) if whitened else [["{}"]]
        moments = models.moments(lm, layers) if whitened else {}
        self.plain = Plain(models.as_published(lm), moments, contexts, -math.inf, -math.inf)
        names = [lm.projection(layer) for layer in layers] if method == "ft" else []
        self.before = {name: lm.weight(name).clone() for name in names}
        options: dict[str, Any] = {"contexts": contexts}
        self.net = None
        if method == "mend":
            self.net = observed(lm, layers)
        artifacts = {"moments": moments, "hypernetwork": self.net}
        self.editor = method_of(method).load()(lm, self.settings, artifacts, **options)
        for layer in moments:
            self.editor.factor(layer)
            if method == "rome":
                self.plain.inverses[layer] = torch.inverse(moments[layer].matrix)

    def by_plain(self, case: int, clock: Clock, ask: bool = True) -> Found:
        """Edit a case and undo it; what the model is asked in between is not timed."""
        request = self.requests[case]
        clock.start()
        if self.net is not None:
            entered = mend(self.plain, request, self.net)
        else:
            entered = self.plain.edit(self.method, [request], self.settings)
        with entered as edit:
            clock.stop()
            work = vars(self.plain.work).copy()
            if self.method == "mend":
                updates, changes = 1, list(edit.values())
            elif self.method == "ft":
                updates = len(edit.losses[0])
                changes = [self.lm.weight(name).detach() - old for name, old in self.before.items()]
            else:
                updates, changes = edit.updates, [left.T @ right for _, left, right in edit.factors]
            said = self.plain.score([request.text], [request.target_new])[0][0] if ask else []
            vars(self.plain.work).update(work)
            clock.start()
        clock.stop()
        return Found([updates], [changes], [said])

    def by_engine(self, cases: Sequence[int], clock: Clock, ask: bool = True) -> Found:
        """Edit cases together; what the model is asked afterwards is not timed."""
        asked = [[self.requests[i]] for i in cases]
        clock.start()
        with no_early_stop():
            result = self.editor.edit(asked)
        clock.stop()
        if any(result.reasons):
            raise RuntimeError(f"an edit failed: {next(filter(None, result.reasons))}")
        if not ask:
            return Found(list(result.steps))
        queries = [Query(case[0].text, case[0].target_new, i) for i, case in enumerate(asked)]
        said = [list(s.token_logprobs) for s in score(self.lm, queries, result.delta)]
        changes = [[d.dense()[0] for d in select(result.delta, [0])]] if len(cases) == 1 else []
        return Found(list(result.steps), changes, said)


class Scores:
    """Eleven prompts with one or several targets, in as many edited states as there are cases."""

    def __init__(
        self,
        lm: LanguageModel,
        size: models.Size,
        name: str,
        n: int,
        steps: int | None,
        texts: models.Texts = models.DRAWN,
    ) -> None:
        self.lm, self.requests, self.steps = lm, texts.requests(n), 1
        self.plain = Plain(models.as_published(lm))
        self.module = lm.projection(size.layers["rome"][0])
        d_out, d_in = lm.weight(self.module).shape
        g = torch.Generator(lm.device).manual_seed(0)
        factors = [torch.randn(n, 1, d, generator=g, device=lm.device) * 0.1 for d in (d_in, d_out)]
        self.state: State = (LowRank(self.module, *factors),)
        self.asked = []
        for i, request in enumerate(self.requests):
            more = [t for t in texts.targets(SCORES[name], i) if t != request.target_new]
            targets = [request.target_new, *more][: SCORES[name]]
            self.asked.append((texts.paraphrases(request, PROMPTS - 1, i), targets))

    def by_plain(self, case: int, clock: Clock, ask: bool = True) -> Found:
        """Score a case whose change is in the weights already."""
        weight, change = self.lm.weight(self.module), self.state[0].dense()[case]
        before = weight.clone()
        weight.add_(change)
        clock.start()
        rows = self.plain.score(*self.asked[case])
        clock.stop()
        weight.copy_(before)
        return Found([0], [], [[x for row in rows for tokens in row for x in tokens]])

    def by_engine(self, cases: Sequence[int], clock: Clock, ask: bool = True) -> Found:
        """Score cases together, each under its own change."""
        queries = [
            Query(prompt, target, i)
            for i, case in enumerate(cases)
            for prompt in self.asked[case][0]
            for target in self.asked[case][1]
        ]
        state = select(self.state, list(cases))
        clock.start()
        scores = iter(score(self.lm, queries, state))
        clock.stop()
        said = []
        for case in cases:
            prompts, targets = self.asked[case]
            said.append([x for _ in range(len(prompts) * len(targets)) for x in next(scores).token_logprobs])
        return Found([0] * len(cases), [], said)


def task(
    lm: LanguageModel,
    size: models.Size,
    name: str,
    n: int,
    steps: int | None,
    texts: models.Texts = models.DRAWN,
) -> Edits | Scores:
    """Return the task that is measured under `name`."""
    return (Scores if name in SCORES else Edits)(lm, size, name, n, steps, texts)


def observed(lm: LanguageModel, layers: Sequence[int]) -> Hypernetwork:
    """A new hypernetwork whose normalisers have seen some rows and whose layers do something."""
    net = Hypernetwork.of(lm, layers, rank=1920, edit_lr=1e-3).requires_grad_(False)
    g = torch.Generator(lm.device).manual_seed(0)
    options = {"generator": g, "device": lm.device}
    for network in net.networks.values():
        for normaliser in (network.x, network.delta):
            normaliser.observe(torch.randn(64, len(normaliser.mean), **options))
        for layer in network.layers:
            layer.u.add_(torch.randn(layer.u.shape, **options) * 1e-3 / layer.u.shape[1] ** 0.5)
    return net


def difference(one: Found, many: Found) -> tuple[float, float]:
    """The largest relative difference of a change, NaN where not compared, and of a log-probability."""
    if one.updates != many.updates:
        raise RuntimeError(f"plain path and engine made {one.updates} and {many.updates} updates")
    changes = [
        float((mine.double() - theirs.double()).norm() / theirs.double().norm())
        for mine, theirs in zip(*(x.changes[0] if x.changes else [] for x in (many, one)), strict=False)
    ]
    said = max(
        abs(a - b)
        for x, y in zip(one.logprobs, many.logprobs, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    return max(changes, default=math.nan), said
