"""Our MEND on the recorded case: five steps of training, an edit, and one with the normaliser in training."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contract import EditResult
from aftershock.editors.mend import MendSettings, MendTraining
from aftershock.editors.mend.edit import Mend
from aftershock.editors.mend.training import Batch, new_optimizer, train_step
from aftershock.lm import edits
from aftershock.lm.edits import State, apply_deltas
from aftershock.lm.gradients import Texts
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork, matrices
from aftershock.lm.texts.tokens import Pair
from aftershock.requests import EditRequest
from recorded import CLOSED_FORM, EXACT, LOGPROB, LOSS, Check, NotCoveredError, Recorded, absolute, relative
from recorded_edits import delta_checks

MAPPED = {name: name for name in ("edit_lr", "lr", "cedit", "cloc", "grad_clip", "rank", "n_hidden")}
MAPPED |= {"accumulate_bs": "accumulate"}
"""Hyperparameters that are settings of ours."""
FIXED = {
    **{"opt": "Adam", "mlp_class": "IDMLP", "init": "id", "act": "relu", "hidden_dim": None},
    **{"norm": True, "combine": True, "shared": True},
    **{"one_sided": False, "x_only": False, "delta_only": False},
}
"""Hyperparameters that our MEND knows one value of."""


def check_mend(case: Recorded) -> Iterator[Check]:
    """The recorded hypernetwork is trained as recorded, and what it then edits is compared."""
    lm, settings = case.lm, _settings(case.inputs["config"])
    modules = [name.removesuffix(".weight") for name in case.inputs["inner_params"]]
    layers = sorted({lm.layer_of(module) for module in modules})
    shapes = {module: tuple(reversed(lm.weight(module).shape)) for module in modules}  # in the recorded order
    net = Hypernetwork(shapes, settings.rank, settings.n_hidden, settings.edit_lr)
    yield Check("modules", float(len(set(matrices(lm, layers)) ^ set(modules))), EXACT)
    take(net, case.part("init.mend"), case.tensors["init.edit_lrs"], modules)
    yield from _training(case, lm, net, settings, modules)

    take(net, case.part("final.mend"), case.tensors["final.edit_lrs"], modules, normalisers=True)
    request = case.inputs["edit_request"]
    asked = EditRequest(request["prompt"], request["subject"], request["target_new"]["str"])
    result = Mend(lm, MendSettings(layers=tuple(layers)), artifacts={"hypernetwork": net}).edit([[asked]])
    yield from _factors(case, result, net)
    yield from delta_checks(case, lm, result.delta, CLOSED_FORM, "edit.delta")
    yield from _logits(case, lm, result.delta)
    released = MendSettings(layers=tuple(layers), variant="released")
    again = Mend(lm, released, artifacts={"hypernetwork": net}).edit([[asked]])
    yield from delta_checks(case, lm, again.delta, CLOSED_FORM, "trainmode_edit.delta")


def _settings(config: Mapping[str, Any]) -> MendTraining:
    """Our settings; NotCoveredError names a hyperparameter, or a value of one, that we do not know."""
    rest = {**config, **config["mend"]}
    rest.pop("mend")
    rest.pop("lr_lr", None)  # which never acts in the released code
    settings = MendTraining(**{ours: rest.pop(theirs) for theirs, ours in MAPPED.items()})
    if unknown := {name: value for name, value in rest.items() if name not in FIXED or value != FIXED[name]}:
        raise NotCoveredError(", ".join(f"{name} {value}" for name, value in sorted(unknown.items())))
    return settings


def _training(
    case: Recorded, lm: LanguageModel, net: Hypernetwork, settings: MendTraining, modules: list[str]
) -> Iterator[Check]:
    """Losses of five batches, the first one's gradient, and the hypernetwork after them."""
    optimizer = new_optimizer(net, settings)
    for step, (recorded, info) in enumerate(
        zip(case.inputs["train_batches"], case.outputs["train_info"], strict=True)
    ):
        batch = Batch(1, *(_texts(lm, recorded[name]) for name in ("edit_inner", "edit_outer", "loc")))
        edit, local = train_step(lm, net, batch, settings, optimizer, step)
        yield Check("loss edit", absolute([edit], [info["loss/edit"]]), LOSS)
        yield Check("loss loc", absolute([local], [info["loss/loc"]]), LOSS)
        total = settings.cedit * edit + settings.cloc * local
        yield Check("loss total", absolute([total], [info["loss/total"]]), LOSS)
        if step == 0:
            wanted = case.part("grad_step0")
            ours = {name: p.grad for name, p in net.named_parameters()}
            for theirs, mine in _names(wanted):
                yield Check("grad_step0", relative(ours[mine], wanted[theirs]), CLOSED_FORM)
            order = [list(net.shapes).index(module) for module in modules]
            yield Check("grad_step0 lrs", relative(ours["rates"][order], wanted["edit_lrs"]), CLOSED_FORM)
    final, state = case.part("final.mend"), net.state_dict()
    for theirs, mine in _names(final):
        yield Check("final", relative(state[mine], final[theirs]), CLOSED_FORM)
    for name, normaliser, value in _normalisers(net, final):
        yield Check("final normaliser", relative(getattr(normaliser, name), value), CLOSED_FORM)
    order = [list(net.shapes).index(module) for module in modules]
    yield Check("final lrs", relative(net.rates[order].detach(), case.tensors["final.edit_lrs"]), CLOSED_FORM)


def _factors(case: Recorded, result: EditResult, net: Hypernetwork) -> Iterator[Check]:
    """Compare the hypernetwork's inputs, without tokens that say nothing, and its outputs."""
    (found,) = result.diagnostics
    for delta in found["state"]:
        name = f"{delta.module}.weight"
        x, out = (tensor[0] for tensor in found["gradients"][delta.module])
        recorded_x, recorded_out = (case.tensors[f"edit.{part}.{name}"][0] for part in ("x", "dL_dout"))
        kept, recorded = (rows.ne(0).any(dim=1) for rows in (out, recorded_out))
        yield Check("x", relative(x[kept], recorded_x[recorded]), CLOSED_FORM)
        yield Check("dL_dout", relative(out[kept], recorded_out[recorded]), CLOSED_FORM)
        yield Check("x_tilde", relative(delta.U[0], case.tensors[f"edit.x_tilde.{name}"]), CLOSED_FORM)
        bent = delta.V[0] / net.rate(delta.module).detach()
        yield Check("delta_tilde", relative(bent, case.tensors[f"edit.delta_tilde.{name}"]), CLOSED_FORM)


def _logits(case: Recorded, lm: LanguageModel, state: State) -> Iterator[Check]:
    ids = torch.tensor(case.inputs["edit_batch"]["edit_inner"]["input_ids"])
    batch = edits.Batch.of_prompts(ids, torch.ones_like(ids), torch.zeros(len(ids), dtype=torch.long))
    for when, weights in (("pre", ()), ("post", state)):
        with torch.no_grad(), apply_deltas(lm, weights, batch):
            logits = lm.logits(lm.run(ids, torch.ones_like(ids), use_cache=False))
        wanted = case.tensors[f"edit.{when}_logits"].log_softmax(-1)
        yield Check(f"{when} logits", absolute(logits.log_softmax(-1), wanted), LOGPROB)


def _texts(lm: LanguageModel, recorded: Mapping[str, Any]) -> Texts:
    """A recorded batch; its labels follow its prompts without a gap."""
    pairs = []
    for ids, mask, labels in zip(
        *(recorded[n] for n in ("input_ids", "attention_mask", "labels")), strict=True
    ):
        size = sum(mask)
        start = next(i for i, label in enumerate(labels) if label != -100)
        assert labels[start:size] == ids[start:size]
        pairs.append(Pair(tuple(ids[:start]), tuple(ids[start:size])))
    return Texts.of(lm, pairs, [0] * len(pairs), whole=True)


def take(
    net: Hypernetwork,
    recorded: Mapping[str, Tensor],
    rates: Tensor,
    modules: list[str],
    normalisers: bool = False,
) -> None:
    """Put recorded parameters, and normalisers if so asked, into `net`."""
    state = net.state_dict()
    for theirs, mine in _names(recorded):
        state[mine] = recorded[theirs]
    state["rates"] = rates[[modules.index(module) for module in net.shapes]]
    net.load_state_dict(state)
    if normalisers:
        for name, normaliser, value in _normalisers(net, recorded):
            setattr(normaliser, name, value.double())


def _names(recorded: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Recorded names of the networks' parameters, and ours."""
    words = {"mode_scale.weight": "scale", "mode_shift.weight": "shift"}
    for theirs in recorded:
        if ".mlp.layers." in theirs:
            shape, _, rest = theirs.partition(".mlp.layers.")
            key = "x".join(shape.strip("()").split(", "))
            number, _, name = rest.partition(".")
            yield theirs, f"networks.{key}.layers.{number}.{words.get(name, name)}"


def _normalisers(net: Hypernetwork, recorded: Mapping[str, Tensor]) -> Iterator[tuple[str, Any, Tensor]]:
    """Return the normaliser's buffer that each recorded statistic is."""
    for theirs, value in recorded.items():
        shape, _, name = theirs.rpartition(".")
        if shape.startswith("(") and name in ("k", "u_mean", "u_s", "v_mean", "v_s") and "mlp" not in theirs:
            network = net.networks["x".join(shape.strip("()").split(", "))]
            if name == "k":
                yield "count", network.x, value[0]
                yield "count", network.delta, value[0]
            else:
                which = {"mean": "mean", "s": "squares"}[name[2:]]
                yield which, {"u": network.x, "v": network.delta}[name[0]], value
