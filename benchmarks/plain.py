"""The plain path: one case at a time, as the released code works. Oracle of tests and baseline of `bench`.

Weights are changed in place and copied back afterwards. Every pass runs whole padded texts through all layers
and the head at all positions. What is left out of the released code changes no number: generating contexts,
copies to another device, printing. Passes and tokens, padding included, are counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import Moment
from aftershock.prompts import fill, following, split
from aftershock.requests import EditRequest

ESSENCE = "{} is a"
IGNORED = -100  # marks positions that predict nothing


@dataclass
class Work:
    """Work of the model: passes, and tokens of the forward ones with their padding."""

    forward: int = 0
    backward: int = 0
    tokens: int = 0


@dataclass
class Edit:
    """The losses of an edit's optimisations, and every matrix's change as factors (r, d_out), (r, d_in)."""

    losses: list[list[float]] = field(default_factory=list)
    factors: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """Changes of values; the last of the losses is that of the value as returned."""
        return sum(len(losses) - 1 for losses in self.losses)


class Plain:
    """The released algorithms on a model whose weights they change."""

    def __init__(
        self,
        lm: LanguageModel,
        moments: Mapping[int, Moment] | None = None,
        contexts: Sequence[Sequence[str]] = (("{}",),),
        stop_value: float = 0.05,
        stop_ft: float = 1e-2,
    ) -> None:
        self.lm, self.moments, self.contexts = lm, moments or {}, contexts
        self.stop_value, self.stop_ft = stop_value, stop_ft  # the losses at which the released code stops
        self.inverses: dict[int, Tensor] = {}
        self.work = Work()

    @contextmanager
    def edit(self, method: str, requests: Sequence[EditRequest], settings: Any) -> Iterator[Edit]:
        """Inside, the model is edited."""
        modules = [self.lm.model.get_submodule(self.lm.projection(layer)) for layer in settings.layers]
        trained = [p for m in modules for p in (m.parameters() if method == "ft" else [m.weight])]
        before = [parameter.detach().clone() for parameter in trained]
        edit = {"ft": self.ft, "rome": self.rome, "memit": self.memit}[method]
        try:
            yield edit(requests, settings, *([trained, before] if method == "ft" else []))
        finally:
            with torch.no_grad():
                for parameter, old in zip(trained, before, strict=True):
                    parameter.requires_grad_(False).copy_(old)

    def rome(self, requests: Sequence[EditRequest], settings: Any) -> Edit:
        """Each request and layer on top of those before."""
        done = Edit()
        contexts = [template for kind in self.contexts for template in kind]
        for request in requests:
            for layer in settings.layers:
                module = self.lm.projection(layer)
                texts = [fill(context, request.prompt) for context in contexts]
                u = self._traced(texts, request.subject, module)[0].mean(dim=0)
                if settings.mom2_adjustment:
                    if layer not in self.inverses:
                        self.inverses[layer] = torch.inverse(self.moments[layer].matrix.to(u))
                    u = self.inverses[layer] @ u
                u = u / u.norm()
                v = self._value(request, contexts, layer, "mlp", settings, done)
                k, o = (x[0] for x in self._traced([request.prompt], request.subject, module))
                right = (v - o) / (k @ u)
                self.lm.weight(module).add_(torch.outer(right, u))
                done.factors.append((module, right[None], u[None]))
        return done

    def memit(self, requests: Sequence[EditRequest], settings: Any) -> Edit:
        """All requests at once."""
        done, lm, layers = Edit(), self.lm, sorted(settings.layers)
        contexts = [template for kind in self.contexts for template in kind]
        site = "mlp" if lm.family.mlp_norm else "layer"
        last = getattr(lm, site)(layers[-1])
        z = torch.stack([self._value(r, contexts, layers[-1], site, settings, done) for r in requests])
        subjects = [r.subject for r in requests for _ in contexts]
        for i, layer in enumerate(layers):
            module = lm.projection(layer)
            texts = [fill(context, r.prompt) for r in requests for context in contexts]
            keys = self._traced(texts, subjects, module)[0].unflatten(0, (len(requests), -1))
            kinds = keys.split([len(kind) for kind in self.contexts], dim=1)
            K = torch.stack([kind.mean(dim=1) for kind in kinds]).mean(dim=0).T.double()
            now = self._traced([r.prompt for r in requests], [r.subject for r in requests], last)[1]
            # what joins the stream is scaled in some families
            scale = getattr(lm.model.config, lm.family.mlp_scale) if lm.family.mlp_scale else 1.0
            R = (z - now).T.double() / (len(layers) - i) / scale
            weighted = settings.mom2_weight * self.moments[layer].matrix.to(lm.device).double()
            adjusted = torch.linalg.solve(weighted + K @ K.T, K)
            lm.weight(module).add_((R @ adjusted.T).to(lm.dtype))
            done.factors.append((module, R.T, adjusted.T))
        return done

    def ft(self, requests: Sequence[EditRequest], settings: Any, trained: list, before: list) -> Edit:
        """Adam on weights and biases; `prompt_last` reads whole targets at the prompt's last token."""
        done = Edit([[]])
        adam = torch.optim.Adam(
            [p.requires_grad_() for p in trained], lr=settings.lr, weight_decay=settings.weight_decay
        )
        for _ in range(settings.steps):
            total = 0.0
            for start in range(0, len(requests), settings.batch_size):
                some = requests[start : start + settings.batch_size]
                adam.zero_grad()
                loss = self._ft_loss(some, settings.objective)
                done.losses[0].append(loss.item())
                total += loss.item() * len(some)
                if loss.item() >= self.stop_ft:
                    self.backward(loss)
                    adam.step()
                if (box := settings.norm_constraint) is not None:
                    with torch.no_grad():
                        for parameter, old in zip(trained, before, strict=True):
                            parameter.copy_(torch.clamp(parameter, min=old - box, max=old + box))
            if total / len(requests) < self.stop_ft:
                break
        return done

    @torch.no_grad()
    def score(self, prompts: Sequence[str], targets: Sequence[str]) -> list[list[list[float]]]:
        """Log-probability of every token, per prompt and target, of all texts in one padded batch."""
        logits = self.forward(*self.read([p + following(p, t) for p in prompts for t in targets]))
        ends, rows = self.lm.encode(prompts), self.lm.encode_targets(targets)
        asked = [(len(prompt), target) for prompt in ends for target in rows]
        found = []
        for i, (end, target) in enumerate(asked):
            log_p = logits[i, end - 1 : end - 1 + len(target)].log_softmax(dim=-1)
            found.append(log_p.gather(1, torch.tensor(target, device=log_p.device)[:, None])[:, 0].tolist())
        return [found[i : i + len(targets)] for i in range(0, len(found), len(targets))]

    def _value(
        self,
        request: EditRequest,
        contexts: Sequence[str],
        layer: int,
        site: str,
        settings: Any,
        done: Edit,
    ) -> Tensor:
        """Return the output wanted of `site` at the subject, (d,): a row per context, and ESSENCE."""
        lm = self.lm
        ids, mask, subjects, labels = self._value_texts(request, contexts)
        targets = int((labels[0] != IGNORED).sum())
        rows, seen = torch.arange(len(ids), device=lm.device), {}
        delta = torch.zeros(lm.d_model, dtype=lm.dtype, device=lm.device, requires_grad=True)

        def add(module, args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            seen.setdefault("v0", hidden[0, subjects[0]].detach().clone())
            hidden[rows, subjects] += delta

        def read_again(module, args, output):
            seen["stream"] = output[0] if isinstance(output, tuple) else output

        early = getattr(settings, "loss_layer", None)
        lens = None
        if hasattr(settings, "mom2_weight"):  # MEMIT reads the target through the norm and the head once more
            lens = lm.layer(lm.n_layers - 1 if early is None else max(early, layer))
        adam = torch.optim.Adam([delta], lr=settings.lr)
        losses: list[float] = []
        for step in range(settings.steps):
            adam.zero_grad()
            with _hook(lm, getattr(lm, site)(layer), add), _hook(lm, lens, read_again):
                logits = self.forward(ids, mask)
            after = logits[-1, subjects[-1]].log_softmax(dim=-1)
            seen.setdefault("log_p0", after.detach().clone())
            if lens is not None:
                norm = lm.model.get_submodule(lm.family.norm)
                logits = lm.logits(norm(seen["stream"][: len(labels)]))
            log_p = logits.log_softmax(dim=-1)
            picked = log_p[: len(labels)].gather(2, labels.clamp(min=0)[..., None])[..., 0]
            nll = -(picked * (labels != IGNORED)).sum(dim=1).mean() / targets
            kl = (after.exp() * (after - seen["log_p0"])).sum()
            decay = torch.norm(delta) / torch.norm(seen["v0"]) ** 2
            loss = nll + settings.kl_factor * kl + settings.weight_decay * decay
            losses.append(loss.item())
            if loss.item() < self.stop_value or step == settings.steps - 1:
                break
            self.backward(loss)
            adam.step()
            limit = settings.clamp * seen["v0"].norm()
            if delta.norm() > limit:
                with torch.no_grad():
                    delta.mul_(limit / delta.norm())
        done.losses.append(losses)
        return seen["v0"] + delta.detach()

    def _value_texts(
        self, request: EditRequest, contexts: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, mask, last subject tokens, and what positions should predict, all but those of ESSENCE."""
        (target,) = self.lm.encode_targets([request.target_new])
        templates = [*(fill(context, request.prompt) for context in contexts), ESSENCE]
        texts = [fill(template, request.subject) for template in templates]
        ending = self.lm.tokenizer.decode(target[:-1])
        ids, mask = self.read([*(text + ending for text in texts[:-1]), texts[-1]])
        subjects = [self._subject(template, request.subject) for template in templates]
        labels = torch.full_like(ids[:-1], IGNORED)
        for row, end in zip(labels, mask[:-1].sum(dim=1).tolist(), strict=True):
            row[end - len(target) : end] = torch.tensor(target, device=ids.device)
        return ids, mask, torch.tensor(subjects, device=ids.device), labels

    def _ft_loss(self, requests: Sequence[EditRequest], objective: str) -> Tensor:
        """Mean over requests of the mean over target tokens of -log p."""
        lm, each = self.lm, objective == "target_new"
        prompts = [request.text for request in requests]
        targets = lm.encode_targets([request.target_new for request in requests])
        ends = [len(ids) for ids in lm.encode(prompts)]
        texts = [
            p + following(p, r.target_new) if each else p for p, r in zip(prompts, requests, strict=True)
        ]
        logits = self.forward(*self.read(texts))
        if each:  # every position of the texts is normalised, as in a cross entropy over shifted labels
            logits = logits.log_softmax(dim=-1)
        total = 0.0
        for row, end, target in zip(logits, ends, targets, strict=True):
            tokens = torch.tensor(target, device=lm.device)
            if each:
                log_p = row[end - 1 : end - 1 + len(target)].gather(1, tokens[:, None])
            else:
                log_p = row[end - 1].log_softmax(dim=-1)[tokens]
            total = total - log_p.mean()
        return total / len(requests)

    @torch.no_grad()
    def _traced(
        self, templates: Sequence[str], subjects: str | Sequence[str], module: str
    ) -> tuple[Tensor, Tensor]:
        """Return a module's input and output at the subjects, (rows, d_in) and (rows, d_out): one pass."""
        subjects = [subjects] * len(templates) if isinstance(subjects, str) else subjects
        at = [self._subject(t, s) for t, s in zip(templates, subjects, strict=True)]
        rows, seen = range(len(templates)), {}

        def look(module, args, output):
            output = output[0] if isinstance(output, tuple) else output
            seen["in"], seen["out"] = args[0][rows, at], output[rows, at]

        with _hook(self.lm, module, look):
            self.forward(*self.read([fill(t, s) for t, s in zip(templates, subjects, strict=True)]))
        return seen["in"], seen["out"]

    def _subject(self, template: str, subject: str) -> int:
        """Index of the subject's last token."""
        return len(self.lm.encode([split(template)[0] + subject])[0]) - 1

    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask of a padded batch."""
        return self.lm.pad(self.lm.encode(texts))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits at all positions; counted."""
        self.work.forward += 1
        self.work.tokens += ids.numel()
        return self.lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss; counted."""
        self.work.backward += 1
        loss.backward()


@contextmanager
def _hook(lm: LanguageModel, module: str | None, function: Any) -> Iterator[None]:
    if module is None:
        yield
        return
    handle = lm.model.get_submodule(module).register_forward_hook(function)
    try:
        yield
    finally:
        handle.remove()
