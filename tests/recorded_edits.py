"""Our editors on recorded cases: intermediate quantities, changes of weights, what the model then says."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from aftershock.editors.memit import edit as memit
from aftershock.editors.methods import method_of
from aftershock.editors.solvers import Factor, adjust, rounding
from aftershock.lm import value_problem, values
from aftershock.lm.edits import EMPTY, Batch, Dense, State, apply_deltas
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.lm.tokens import Located
from aftershock.requests import EditRequest, Query
from recorded import (
    CLOSED_FORM,
    DELTA,
    EXACT,
    LOGPROB,
    LOSS,
    VALUE,
    Check,
    Recorded,
    absolute,
    relative,
)
from recorded_settings import settings_from

ROUNDINGS = 4.0
"""Roundings of float32 between a model's weights and its keys that two processors may do otherwise."""


def tokens_check(case: Recorded) -> tuple[Check, dict[tuple, value_problem.Text]]:
    """Whether our tokens of the optimised texts are the recorded ones, and those that differ.

    The released code joins texts and tokenises again; with a tokenizer for which this is not the same, the
    recorded tokens are what the recorded numbers belong to.
    """
    contexts = flat(case.inputs.get("context_templates", [["{}"]]))
    other: dict[tuple, value_problem.Text] = {}
    n_layers = len(case.inputs["hparams"]["layers"]) if "c00.z.left_vector" in case.tensors else 1
    asked = [request for request in case.requests for _ in range(n_layers)]
    for request, recorded in zip(asked, case.optimisations, strict=True):
        rows = [
            (tuple(t for t, m in zip(ids, mask, strict=True) if m), index)
            for ids, mask, index in zip(
                recorded["input_ids"], recorded["attention_mask"], recorded["lookup_idxs"], strict=True
            )
        ]
        target = tuple(recorded["target_ids"])
        theirs = [(Located(*row, len(target) - 1), target) for row in rows[:-1]]
        theirs.append((Located(*rows[-1]), ()))
        if value_problem.write_texts(case.lm, [request], contexts)[0] != theirs:
            other[request.prompt, request.subject, request.target_new] = theirs
    return Check("tokens", float(len(other)), EXACT), other


@contextmanager
def using(recorded: Mapping[tuple, value_problem.Text]) -> Iterator[None]:
    """Inside, values of these requests are optimised on the given tokens."""
    own = values.write_texts

    def texts(
        lm: LanguageModel, requests: Sequence[EditRequest], contexts: Sequence[str], *others: object
    ) -> list[value_problem.Text]:
        made = own(lm, requests, contexts, *others)
        return [
            recorded.get((r.prompt, r.subject, r.target_new), t) for r, t in zip(requests, made, strict=True)
        ]

    values.write_texts = texts
    try:
        yield
    finally:
        values.write_texts = own


@contextmanager
def decided(keys: Sequence[Tensor]) -> Iterator[list[Check]]:
    """Inside, MEMIT's layers take the recorded keys, (d, n) in order, where the rounding of keys decides.

    Our keys agree with the recorded ones up to the last bits of float32. Where these alone change the solution
    by more than the tolerance of an edit, another processor cannot give the recorded one from its own keys. The
    checks say that it was so, how far our keys are off, and how far the solution from them is from the one from
    the recorded keys, against what rounding can do.
    """
    own, recorded, checks = memit.adjust, iter(keys), []

    def solve(factor: Factor, weight: float, found: Tensor) -> Tensor:
        wanted = next(recorded).T[None].to(found)
        solved, ours = (adjust(factor, weight, k) for k in (wanted, found))
        loose = float(rounding(factor, weight, wanted, solved, torch.float32))
        if loose <= DELTA or found.shape != wanted.shape:
            return ours
        checks.append(Check("keys recorded", 0.0, EXACT))
        checks.append(Check("K", relative(found, wanted), CLOSED_FORM))
        checks.append(Check("adj_k by own keys", relative(ours, solved), ROUNDINGS * loose))
        return solved

    memit.adjust = solve
    try:
        yield checks
    finally:
        memit.adjust = own


def flat(contexts: Sequence) -> list[str]:
    """Context templates without their kinds."""
    return [c for kind in contexts for c in ([kind] if isinstance(kind, str) else kind)]


def delta_checks(case: Recorded, lm: LanguageModel, state: State) -> Iterator[Check]:
    """The whole change of every parameter, in the model's own orientation."""
    found: dict[str, Tensor] = {}
    for delta in state:
        weight = delta.dense()[0].double()
        weight = weight.T if lm.family.transposed else weight
        found[f"{delta.module}.weight"] = found.get(f"{delta.module}.weight", 0.0) + weight
        if isinstance(delta, Dense) and delta.bias is not None:
            found[f"{delta.module}.bias"] = found.get(f"{delta.module}.bias", 0.0) + delta.bias[0].double()
    wanted = case.part("delta")
    yield Check("parameters", float(len(set(found) ^ set(wanted))), EXACT)
    for name in sorted(set(found) & set(wanted)):
        yield Check("dW", relative(found[name], wanted[name]), DELTA)


def behaviour_checks(case: Recorded, lm: LanguageModel, state: State) -> Iterator[Check]:
    """Log-probabilities after the recorded probe texts and of both targets, before and after the edit."""
    for when, weights in (("pre", EMPTY), ("post", state)):
        for i, text in enumerate(case.inputs["probes"]):
            ids, mask = lm.pad(lm.encode([text]))
            batch = Batch.of_prompts(ids, mask, torch.zeros(1, dtype=torch.long))
            with torch.no_grad(), apply_deltas(lm, weights, batch):
                logits = lm.logits(lm.run(ids, mask, use_cache=False)[0, -1])
            wanted = case.tensors[f"{when}.probe_{i}"].log_softmax(-1)
            yield Check(f"{when} probes", absolute(logits.log_softmax(-1), wanted), LOGPROB)
        for request, recorded in zip(case.requests, case.outputs[f"eval_{when}"], strict=True):
            for target in ("target_new", "target_true"):
                if (
                    not recorded.get(target)
                    or recorded[target]["token_ids"] != lm.encode_targets([recorded[target]["str"]])[0]
                ):
                    continue  # other tokens: nothing to compare
                (result,) = score(lm, [Query(request.text, recorded[target]["str"])], weights)
                yield Check(
                    f"{when} targets", absolute(result.token_logprobs, recorded[target]["logprobs"]), LOGPROB
                )


def loss_checks(losses: Tensor, trace: Sequence[Mapping[str, float]]) -> Iterator[Check]:
    """The loss at every step of one optimisation; `losses` ends in NaN where it stopped early."""
    found = losses[losses.isfinite()]
    yield Check("losses", absolute(found, [step["loss"] for step in trace]), LOSS)


def check_ft(case: Recorded) -> Iterator[Check]:
    """Fine-tuning; the requests of a case are one batch or several."""
    lm, settings = case.lm, settings_from("ft", case.inputs["hparams"], case.lm)
    if settings.objective == "prompt_last":
        lm = case.load("released")  # the target is tokenised alone
    result = method_of("ft").load()(lm, settings).edit([case.requests])
    steps = [step for part in case.outputs["trace"] for step in part]
    yield from loss_checks(result.diagnostics[0]["losses"][:, 0], steps)
    yield from delta_checks(case, lm, result.delta)
    yield from behaviour_checks(case, lm, result.delta)


def check_rome(case: Recorded, method: str = "rome") -> Iterator[Check]:
    """ROME; several requests are written one after the other."""
    lm = case.lm
    token_check, other = tokens_check(case)
    yield token_check if not other else Check("tokens recorded", 0.0, EXACT)
    settings = settings_from(method, case.inputs["hparams"], lm)
    editor = method_of(method).load()(
        lm, settings, {"moments": case.moments}, contexts=[flat(case.inputs["context_templates"])]
    )
    with using(other):
        result = editor.edit([case.requests])
    names = {"v0": "target_init", "delta": "delta", "v": "target", "k0": "cur_input", "o0": "cur_output"}
    names |= {"log_p0": "kl_log_probs_init", "right": "right_vector", "u": "left_vector"}
    tolerances = {"u": DELTA, "right": DELTA}
    for found, recorded, trace in zip(
        result.diagnostics, case.optimisations, case.outputs["trace"], strict=True
    ):
        wanted = case.part(recorded["name"])
        for ours, theirs in names.items():
            yield Check(ours, relative(found[ours][0], wanted[theirs]), tolerances.get(ours, VALUE))
        if settings.mom2_adjustment:
            # The recorded u holds the rounding of a float32 inverse, 6e-5 at these conditions of C; ours is
            # solved in float64. From our keys through such an inverse, the recorded direction must come out.
            k = found["k"][0].float()
            whitened = torch.inverse(case.moments[found["layer"]].matrix) @ k
            as_released = relative(whitened / whitened.norm(), wanted["left_vector"])
            yield Check("u by float32 inverse", as_released, CLOSED_FORM)
        again = (wanted["target"] - wanted["cur_output"]) / (wanted["cur_input"] @ wanted["left_vector"])
        yield Check("right given inputs", relative(again, wanted["right_vector"]), CLOSED_FORM)
        yield from loss_checks(found["losses"][:, 0], trace)
    yield from delta_checks(case, lm, result.delta)
    yield from behaviour_checks(case, lm, result.delta)


def check_rrome(case: Recorded) -> Iterator[Check]:
    """ROME with one key for direction and division."""
    yield from check_rome(case, "r_rome")


def check_memit(case: Recorded, calls: Sequence[slice] = (slice(None),)) -> Iterator[Check]:
    """MEMIT; each of `calls` edits some of the requests at once, on top of the calls before."""
    lm = case.lm
    token_check, other = tokens_check(case)
    yield token_check if not other else Check("tokens recorded", 0.0, EXACT)
    settings = settings_from("memit", case.inputs["hparams"], lm)
    editor = method_of("memit").load()(
        lm, settings, {"moments": case.moments}, contexts=case.inputs["context_templates"]
    )
    optimised = iter(zip(case.optimisations, case.outputs["trace"], strict=True))
    names = [x["name"] for x in case.inputs["intermediate"] if f"{x['name']}.keys" in case.tensors]
    layers = iter(names)
    state: State = EMPTY
    with using(other), decided([case.tensors[f"{name}.keys"] for name in names]) as decisions:
        results = []
        for call in calls:
            results.append(editor.edit([case.requests[call]], state))
            state += results[-1].delta
    yield from decisions
    for call, result in zip(calls, results, strict=True):
        solved, *spread = result.diagnostics
        for i in range(len(case.requests[call])):
            recorded, trace = next(optimised)
            wanted = case.part(recorded["name"])
            for ours, theirs in {"v0": "target_init", "delta": "delta", "z": "target"}.items():
                yield Check(ours, relative(solved[ours][i], wanted[theirs]), VALUE)
            yield Check("log_p0", relative(solved["log_p0"][i], wanted["kl_log_probs_init"]), VALUE)
            yield from loss_checks(solved["losses"][:, i], trace)
        for found in spread:
            wanted = case.part(next(layers))
            yield Check("K", relative(found["K"][0].T, wanted["keys"]), VALUE)
            yield Check("residual", relative(found["residual"].T, wanted["targets"]), VALUE)
            yield Check("R", relative(found["R"][0].T, wanted["resid"]), VALUE)
            yield Check("adj_k", relative(found["adj_k"][0].T, wanted["adj_k"]), VALUE)
            closed = adjust(editor.factor(found["layer"]), settings.mom2_weight, wanted["keys"].T[None])
            yield Check("adj_k given inputs", relative(closed[0].T, wanted["adj_k"]), CLOSED_FORM)
    yield from delta_checks(case, lm, state)
    yield from behaviour_checks(case, lm, state)


def check_mle(case: Recorded) -> Iterator[Check]:
    """The multi-label edit: the first request, then all others at once."""
    yield from check_memit(case, (slice(0, 1), slice(1, None)))
