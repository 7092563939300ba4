"""Our WISE and MEMOIR on recorded runs of their released code."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.memoir.edit import Memoir
from aftershock.editors.wise.edit import Wise
from aftershock.editors.wise.ties import merge
from aftershock.lm.edits import Batch, State, apply_deltas
from aftershock.lm.hooks import record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair
from recorded import EXACT, LOGPROB, LOSS, Check, NotCoveredError, Recorded, absolute, relative, unpadded
from recorded_edits import behaviour_checks
from recorded_settings import settings_by

SIDE, THRESHOLD, MASKED = 1e-4, 1e-5, 1e-5  # relative
LOGITS = 1e-4  # absolute
WITHOUT_EFFECT = ("alg_name", "model_name", "device", "batch_size", "max_length", "model_parallel")
FIXED = {
    "wise": {
        **{"objective_optimization": "only_label", "replay": False, "merge_alg": "ties"},
        "use_chat_template": False,
    },
    "memoir": {"objective_optimization": "only_label"},
}


def _settings(method: str, case: Recorded, **more: Any) -> Any:
    """Our settings for the released code's hyperparameters; NotCoveredError names what is not known here."""
    hparams = {k: v for k, v in case.inputs["hparams"].items() if k not in WITHOUT_EFFECT}
    for name, value in FIXED[method].items():
        if (found := hparams.pop(name, value)) != value:
            raise NotCoveredError(f"{name} {found}")
    (parameter,) = hparams.pop("inner_params")
    module = re.sub(r"\[(\d+)\]", r".\1", parameter).removesuffix(".weight")
    layer = case.lm.layer_of(module)
    if module != case.lm.projection(layer):
        raise NotCoveredError(f"inner_params {parameter}")
    return settings_by(method, hparams, layers=[layer], variant="released", **more)


def _whole(pairs: Sequence[Pair]) -> list[tuple[int, ...]]:
    return [(*pair.prompt, *pair.target) for pair in pairs]


def _passed(
    lm: LanguageModel, module: str, ids: Tensor, state: State, end: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs and outputs of a matrix in one text, and its scores with the memory; its prompt ends
    at index `end`."""
    batch = Batch(ids, torch.zeros(1, dtype=torch.long), torch.tensor([end]))
    with torch.no_grad():
        with record_activations(lm, [module], [module]) as seen:
            lm.run(ids, None, use_cache=False)
        with apply_deltas(lm, state, batch):
            logits = lm.logits(lm.run(ids, None, use_cache=False)[0])
    return seen["in", module], seen["out", module], logits


# --- WISE ---------------------------------------------------------------------------------------------------
def check_wise(case: Recorded) -> Iterator[Check]:
    """The recorded edits one after the other, with the recorded masks and other texts."""
    if "base" in case.tensors:
        yield from _ties_checks(case)
        return
    lm = case.lm
    hparams = _wise_hparams(case.inputs["hparams"], len(case.requests))
    if not isinstance(hparams["norm_constraint"], float):
        hparams["norm_constraint"] = None  # the released code clamps by floats alone
    plain = replace(case, inputs={**case.inputs, "hparams": hparams})
    settings = _settings("wise", plain, routing="released")
    editor = Wise(lm, settings, contexts=[case.inputs["context_templates"]])
    others = {
        request.text: ids
        for request, ids in zip(
            case.requests, lm.encode([r["loc_prompt"] for r in case.inputs["requests"]]), strict=True
        )
    }
    editor.other_text = lambda request: tuple(others[request.text])
    editor.draw_mask = lambda started: case.ours(case.tensors[f"edit{started}.mask"]).to(lm.dtype)
    state: State = ()
    memory = None
    for i, request in enumerate(case.requests):
        entry = case.inputs["intermediate"][i]
        other = case.inputs["requests"][i]["loc_prompt"]
        editor.settings = replace(settings, apart="subject" if other in request.text else "other_text")
        editor.part = lambda request, other=other: other
        rows = [*_whole(editor.pairs(request, ())), others[request.text]]
        yield Check("tokens", float(unpadded(entry) != [list(row) for row in rows]), EXACT)
        result = editor.edit([[request]], state, memory)
        state, memory = result.delta, result.memory
        yield from _wise_checks(case, i, result.diagnostics[0])
    yield from _wise_routes(case, editor, state)
    yield from (c for c in behaviour_checks(case, lm, state) if c.output != "post targets")
    yield from _whole_text_checks(case, editor, state)


def _wise_hparams(hparams: Mapping[str, Any], edits: int) -> dict[str, Any]:
    """Hyperparameters without those that so many edits make no use of; margins by their own names."""
    found = dict(hparams)
    for name, margin in zip(("alpha", "beta", "gamma"), found.pop("act_margin", None) or (), strict=False):
        if found.setdefault(name, margin) != margin:
            raise NotCoveredError(f"act_margin {hparams['act_margin']}")
    if edits < found["merge_freq"] and found["retrieve"]:
        found.pop("merge_alg", None)  # nothing is merged
    if edits <= found["merge_freq"]:
        found.pop("replay", None)  # of what was merged before
    for name in ("save_path", "load_path"):
        if found.get(name, "") is None:
            del found[name]
    return found


def _whole_text_checks(case: Recorded, editor: Wise, state: State) -> Iterator[Check]:
    """Log-probabilities of targets in passes that read them to their end, which counts in distances."""
    lm = case.lm
    for recorded in case.outputs["eval_post"]:
        for target in (recorded["target_new"], recorded["target_true"]):
            prompt, tokens = recorded["prompt_ids"], target["token_ids"]
            ids = torch.tensor([[*prompt, *tokens]])
            _, _, logits = _passed(lm, editor.module, ids, state, len(prompt) - 1)
            found = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])
            yield Check("post targets", absolute(found[:, 0], target["logprobs"]), LOGPROB)


def _wise_checks(case: Recorded, i: int, found: Mapping[str, Any]) -> Iterator[Check]:
    """Losses, distances, memories and thresholds after edit `i`."""
    entry, memory = case.inputs["intermediate"][i], found["memory"]
    trace = [(step["ft"], step["act"]) for step in case.outputs["trace"][i]]
    yield Check("losses", absolute(found["parts"][: len(trace)], trace), LOSS)
    yield Check("in_dist", relative(found["away"], case.tensors[f"edit{i}.in_dist"]), THRESHOLD)
    yield Check("side", _matrix(case, memory.changes[0, 0], case.tensors[f"edit{i}.side_delta"]), SIDE)
    stored = sorted(name for name in case.part(f"edit{i}") if name.startswith("memory"))
    first = memory.changes.shape[1] - len(stored)
    yield Check("memories", float(first != 1 and bool(stored)), EXACT)
    for k, name in enumerate(stored):
        change = memory.changes[0, first + k]
        yield Check("memory", _matrix(case, change, case.tensors[f"edit{i}.{name}"]), SIDE)
    thresholds = [entry["side_min_act"], *entry["memory_min_act"]]
    mine = memory.thresholds[0, : len(thresholds)]
    yield Check("thresholds", relative(mine, torch.tensor(thresholds)), THRESHOLD)


def _matrix(case: Recorded, found: Tensor, wanted: Tensor) -> float:
    """Return the distance of a change from the recorded one; one recorded as zero has to be so."""
    if not wanted.any():
        return float(found.abs().max())
    return relative(case.ours(found), wanted)


def _wise_routes(case: Recorded, editor: Wise, state: State) -> Iterator[Check]:
    """Distances, the memory that is chosen, and the scores of the recorded texts."""
    lm, (memory,) = case.lm, state
    case_of = torch.zeros(1, dtype=torch.long)
    for j, route in enumerate(case.outputs["routes"]):
        ids = torch.tensor(lm.encode([route["text"]]))
        x, y, logits = _passed(lm, editor.module, ids, state, ids.shape[1] - 1)
        distances = memory.distances(lm, x, y, case_of, torch.ones_like(ids, dtype=torch.bool))
        yield Check("distances", relative(distances[0], torch.tensor(route["dists"])), SIDE)
        chosen = ["main", *route["order"]][int(memory.choose(distances, case_of)) + 1]
        yield Check("routes", float(chosen not in (route["chosen"], *route["also"])), EXACT)
        yield Check("logits", absolute(logits, case.tensors[f"route{j}.logits"]), LOGITS)


def _ties_checks(case: Recorded) -> Iterator[Check]:
    """TIES on recorded tensors."""
    base, hparams = case.tensors["base"], case.inputs["hparams"]
    one, two = (case.tensors[f"mem{k}"] - base for k in range(2))
    density, weight = hparams["densities"], hparams["weights"]
    both = [weight / 2, weight / 2]
    merged = merge([one, two], both, density)
    found = {
        "merged_1": merge([one], [weight], density),
        "merged_2": merged,
        "merged_later": merge([one, two, case.tensors["merged_2"] - base], [0.2, 0.2, 0.6], density),
        "merged_density1": merge([one, two], both, 1.0),
    }
    for name, change in found.items():
        yield Check(name, relative(base + change, case.tensors[name]), MASKED)


# --- MEMOIR -------------------------------------------------------------------------------------------------
def check_memoir(case: Recorded) -> Iterator[Check]:
    """The recorded edits one after the other, with the recorded background and permutation."""
    lm = case.lm
    hparams = dict(case.inputs["hparams"])
    for name in ("dir_background_features", "context_template_length_params", "verbose"):
        hparams.pop(name, None)  # which are recorded, or without effect
    plain = replace(case, inputs={**case.inputs, "hparams": hparams})
    editor = Memoir(lm, _settings("memoir", plain), contexts=[case.inputs["context_templates"]])
    editor.background = case.tensors["background_features"][:100].mean(dim=0)
    editor.permutation = case.tensors["permutation"]
    state: State = ()
    memory = None
    for i, request in enumerate(case.requests):
        rows = _whole(editor.pairs(request, ()))
        entry = case.inputs["intermediate"][i]
        rows = [list(row) for row in (*rows, *lm.encode(["<<MEMOIR_IRRELEVANT>>"]))]
        yield Check("tokens", float(unpadded(entry) != rows), EXACT)
        result = editor.edit([[request]], state, memory)
        state, memory = result.delta, result.memory
        (found,) = result.diagnostics
        trace = case.outputs["trace"][i]
        yield Check("losses", absolute(found["losses"][: len(trace)], [s["loss"] for s in trace]), LOSS)
        yield Check("norms", absolute(found["norms"][: len(trace)], [s["grad_norm"] for s in trace]), LOSS)
        yield Check("feature", relative(found["feature"], case.tensors[f"edit{i}.feature"]), MASKED)
        yield Check("W_m", relative(state[0].weight[0], case.tensors[f"edit{i}.Wm"]), MASKED)
        same = torch.equal(state[0].masks[0], case.tensors[f"edit{i}.masks"].bool())
        yield Check("masks", float(not same), EXACT)
    yield from _memoir_routes(case, editor, state)


def _memoir_routes(case: Recorded, editor: Memoir, state: State) -> Iterator[Check]:
    """Features, masks, overlaps, the mask that is used, and the scores of the recorded texts."""
    lm, (memory,) = case.lm, state
    case_of = torch.zeros(1, dtype=torch.long)
    for j, route in enumerate(case.outputs["routes"]):
        size = route["prompt_tokens"]
        ids = torch.tensor(lm.encode([route["prompt"] + route["continuation"]]))
        x, _, logits = _passed(lm, editor.module, ids, state, size - 1)
        counted = torch.arange(ids.shape[1])[None] < size
        feature = memory.features(x, counted, case_of)
        mask = memory.mask_of(feature, case_of)
        yield Check("features", relative(feature[0], case.tensors[f"route{j}.feature"]), MASKED)
        yield Check("masks", float(not torch.equal(mask[0], case.tensors[f"route{j}.mask"].bool())), EXACT)
        yield Check("overlaps", absolute(memory.overlaps(mask, case_of)[0], route["overlaps"]), 1e-6)
        wanted = route["best"] if route["used"] else -1
        yield Check("routes", float(int(memory.route(x, counted, case_of)) != wanted), EXACT)
        yield Check("logits", absolute(logits, case.tensors[f"route{j}.logits"]), LOGITS)
