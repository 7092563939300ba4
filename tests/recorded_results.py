"""Our scoring and our metrics on recorded runs of the released evaluators."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from aftershock.lm.edits import EMPTY, Dense, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.metrics.released import released_metrics
from aftershock.prompts import fill
from aftershock.requests import Query
from recorded import EXACT, PROBABILITY, Check, Recorded, absolute


# --- scoring ------------------------------------------------------------------------------------------------
def check_scoring(case: Recorded) -> Iterator[Check]:
    """Probabilities of all targets after all prompts, in three states of the weights."""
    lm, record = case.lm, case.inputs["record"]
    templates = [record["prompt"], *case.inputs["prompts"][record["relation_id"]]]
    prompts = [fill(template, record["subject"]) for template in templates]
    targets = scored_targets(case.inputs)
    yield Check("targets", float(targets != case.outputs["targets"]), EXACT)
    yield Check("prompt tokens", float(lm.encode(prompts) != case.outputs["prompt_token_ids"]), EXACT)
    yield Check("target tokens", float(lm.encode_targets(targets) != case.outputs["target_token_ids"]), EXACT)
    for name, operations in case.inputs["states"].items():
        state = state_of(lm, operations, case.root)
        scores = score(lm, [Query(prompt, target) for target in targets for prompt in prompts], state)
        found = torch.tensor([s.probability for s in scores]).double()
        wanted = torch.tensor(recorded_probabilities(case.outputs["results"][name])).double()
        error = (
            absolute(found / wanted, torch.ones_like(wanted)) if found.shape == wanted.shape else float("inf")
        )
        yield Check(f"p {name}", error, PROBABILITY)


def scored_targets(inputs: Mapping[str, Any]) -> list[str]:
    """Labels in the order the released evaluators score them."""
    record = inputs["record"]
    if inputs["evaluator"] == "evaluate_conflictEdit":
        return [record["target_new"]["str"]]
    rest = [entity["label"] for entity in inputs["true_objects"] or []]
    if rest:
        rest.remove(record["target_new"]["str"])  # the first one only: a twin is scored again
    return [record["target_true"]["str"], record["target_new"]["str"], *rest]


def recorded_probabilities(result: Mapping[str, Any]) -> list[float]:
    """Probabilities by target, then prompt, the edit prompt first."""
    if "rewrite" in result:
        return [result["rewrite"], *result["generation"]]
    parts = [result["target_true"], result["target_new"], *result.get("others", [])]
    return [p for part in parts for p in recorded_probabilities(part)]


def state_of(lm: LanguageModel, operations: Sequence[Mapping[str, str]], root: Path) -> State:
    """The recorded changes of weights, as a state of one case."""
    state: State = EMPTY
    for operation in operations:
        tensors = load_file(root / "cases" / operation["case"] / "golden.safetensors")
        found = {
            k.removeprefix(operation["prefix"]): v
            for k, v in tensors.items()
            if k.startswith(operation["prefix"])
        }
        if operation["op"] == "set":
            state = tuple(d for d in state if f"{d.module}.weight" not in found)
        for name in [name for name in found if name.endswith(".weight")]:
            module = name.removesuffix(".weight")
            weight, bias = found[name], found.get(f"{module}.bias")
            weight = weight.T if lm.family.transposed else weight
            if operation["op"] == "set":
                weight = weight - lm.weight(module)
                bias = None if bias is None else bias - lm.bias(module)
            state += (Dense(module, weight[None], None if bias is None else bias[None]),)
    return state


# --- metrics ------------------------------------------------------------------------------------------------
METRIC, DIVERGENCE = 1e-12, 1e-7  # absolute; the released code computes divergences in float32


def check_metrics(folder: Path) -> Iterator[Check]:
    """Every recorded number of the released summary, and of each of its rows."""
    expected = json.loads((folder / "expected.json").read_text())
    found = released_metrics(folder)
    yield Check("files", float(len(set(found.rows) ^ set(expected["rows"]))), EXACT)
    for name, wanted in expected["summary"].items():
        for metric, value in wanted.items():
            tolerance = DIVERGENCE if metric == "D" else METRIC
            yield Check(metric, difference(found.summary[name][metric], value), tolerance)
    for name, rows in expected["rows"].items():
        frame = found.rows[name]
        yield Check("rows", abs(len(frame) - len(rows)), EXACT)
        for i, row in enumerate(rows):
            for column, value in row.items():
                tolerance = DIVERGENCE if column in ("D", "JS") else METRIC
                yield Check(f"row {column}", difference(frame[column].iloc[i], value), tolerance)


def difference(found: Any, wanted: Any) -> float:
    """The largest difference of two numbers or lists; none between two missing or infinite ones."""
    found, wanted = (torch.as_tensor(x, dtype=torch.float64) for x in (found, wanted))
    if found.shape != wanted.shape:
        return float("inf")
    same = (found == wanted) | (found.isnan() & wanted.isnan())  # so are equal infinities
    return float((found - wanted).masked_fill(same, 0.0).abs().max())
