"""Our knowledge neurons and codebooks on recorded runs of the released code."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from aftershock.editors.kn.edit import Kn
from aftershock.editors.methods import method_of
from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest
from recorded import EXACT, LOGPROB, LOSS, VALUE, Check, NotCoveredError, Recorded, absolute, relative
from recorded_edits import behaviour_checks, delta_checks
from recorded_settings import NOWHERE, settings_by

SCORES = 1e-5
WITHOUT_EFFECT = {
    "kn": ("lr_scale", "n_toks"),
    # the first is read where values are trained with noise alone, the others nowhere: distances are Euclidean
    # and requests are edited one at a time
    "grace": ("num_pert", "reg", "val_reg", "dropout", "dist_fn", "batch_size"),
}
NOISE = "adv"  # the way to train values that adds noise to them; every other name is none
VALUES = {"replace_last": "last", "replace_prompt": "prompt", "replace_all": "all"}
SEED = 7  # of the recorded cold values


def settings_from(method: str, hparams: Mapping[str, Any], **more: Any) -> Any:
    """Our settings for the released code's hyperparameters; NotCoveredError names what is not known here."""
    ignored = (*NOWHERE, *WITHOUT_EFFECT[method], "val_train")
    if (training := hparams.get("val_train")) == NOISE:
        raise NotCoveredError(f"val_train {training}")
    rest = {name: VALUES.get(value, value) for name, value in hparams.items() if name not in ignored}
    return settings_by(method, rest, variant="released", **more)


# --- knowledge neurons --------------------------------------------------------------------------------------
def check_kn(case: Recorded) -> Iterator[Check]:
    """Scores of all neurons, those that are chosen, and the edited model."""
    lm, inputs = case.lm, case.inputs
    (request,) = case.requests
    spaced = inputs["kn_target"].startswith(" ")
    settings = settings_from(
        "kn", inputs["hparams"], layers=list(range(lm.n_layers)), leading_space=spaced, continued=_branch(lm)
    )
    asked = EditRequest(request.prompt, request.subject, inputs["kn_target"], inputs["kn_ground_truth"])
    yield Check("prompt", float(asked.text != inputs["kn_text"]), EXACT)
    result = Kn(lm, settings, contexts=[["{}"]]).edit([[asked]])
    (found,) = result.diagnostics
    yield Check("scores", relative(found["scores"][0, 0], case.tensors["scores"]), SCORES)
    neurons = {tuple(neuron) for neuron in found["neurons"][0].nonzero().tolist()}
    wanted = {tuple(neuron) for neuron in inputs["neurons"]}
    yield Check("neurons", float(len(neurons ^ wanted)), EXACT)
    used = {layer for layer, _ in wanted}
    delta = tuple(d for d in result.delta if lm.layer_of(d.module) in used)
    yield from delta_checks(case, lm, delta)
    yield from behaviour_checks(case, lm, result.delta)


def _branch(lm: LanguageModel) -> str:
    """Return the places where the released code reads an object's later tokens."""
    return "greedy" if lm.model.config.model_type == "llama" else "prompt_end"


# --- codebooks ----------------------------------------------------------------------------------------------
def check_grace(case: Recorded) -> Iterator[Check]:
    """The codebook after each edit, the losses of its value, and what the model says in the end."""
    lm, inputs = case.lm, case.inputs
    layer, module = _place(lm, inputs["hparams"]["inner_params"])
    hparams = {k: v for k, v in inputs["hparams"].items() if k != "inner_params"}
    settings = settings_from("grace", hparams, layers=[layer], module=module)
    seeds = re.search(r"seed(\d+)", case.path.name)
    editor = method_of("grace").load()(lm, settings, seed=int(seeds[1]) if seeds else SEED)
    state: State = EMPTY
    memory = None
    for i, request in enumerate(case.requests):
        result = editor.edit([[request]], state, memory)
        state, memory = state + result.delta, result.memory
        (found,) = result.diagnostics
        entries = found["entries"][0]
        (pair,) = encode_pairs(lm, [(request.text, request.target_new)])
        tokens = [*pair.prompt, *pair.target], len(pair.prompt) - 1
        wanted_tokens = inputs[f"tokens_{i}"]["input_ids"][0], inputs[f"key_id_{i}"]
        yield Check("tokens", float(tokens != wanted_tokens), EXACT)
        yield Check("losses", absolute(found["losses"][:, 0], inputs["losses"][i]), LOSS)
        for name, values in {"keys": "key", "values": "value"}.items():
            ours = torch.stack([getattr(entry, values) for entry in entries])
            yield Check(name, relative(ours, case.tensors[f"{name}_after_{i}"]), VALUE)
        radii = torch.tensor([entry.epsilon for entry in entries])
        yield Check("eps", absolute(radii, case.tensors[f"eps_after_{i}"].flatten()), 1e-5)
    for i in range(len(case.requests)):
        ids, mask = lm.pad([inputs[f"tokens_{i}"]["input_ids"][0]])
        batch = Batch(ids, torch.zeros(1, dtype=torch.long), torch.tensor([inputs[f"key_id_{i}"]]))
        with torch.no_grad(), apply_deltas(lm, state, batch):
            logits = lm.logits(lm.run(ids, mask, use_cache=False)[0])
        wanted = case.tensors[f"post_full_logits_{i}"].log_softmax(-1)
        yield Check("post logits", absolute(logits.log_softmax(-1), wanted), LOGPROB)


def _place(lm: LanguageModel, parameters: list[str]) -> tuple[int, str]:
    """The layer and the matrix that the released code adapts."""
    (name,) = parameters
    module = re.sub(r"\[(\d+)\]", r".\1", name).removesuffix(".weight")
    layer = lm.layer_of(module)
    places = {lm.family.inputs[0].format(layer): "input", lm.projection(layer): "output"}
    if module not in places:
        raise NotCoveredError(f"inner_params {name}")
    return layer, places[module]
