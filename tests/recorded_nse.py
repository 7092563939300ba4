"""NSE on recorded cases: its passes over the layers, the requests and the neurons of each."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from aftershock.editors.multi_layer import MultiLayerEditor
from aftershock.editors.previous_keys import PreviousKeys
from recorded import CLOSED_FORM, EXACT, VALUE, Check, Recorded, absolute, relative
from recorded_edits import behaviour_checks, delta_checks, tokens_check, using, value_checks
from recorded_multi_layer import between_checks, make, run_calls


def check_nse(case: Recorded) -> Iterator[Check]:
    """Calls one after the other; all values are those of the unedited model."""
    editor = make(case, "nse")
    token_check, other = tokens_check(case)
    yield token_check
    ends = torch.tensor(case.inputs["calls"]).cumsum(0).tolist()
    calls = [slice(end - size, end) for end, size in zip(ends, case.inputs["calls"], strict=True)]
    with using(other):
        results, states, memories = run_calls(case, editor, calls)
    optimised = iter(zip(case.optimisations, case.outputs["trace"], strict=True))
    recorded = [x for x in case.inputs["intermediate"] if "neurons" in x]
    layers, memory, distances = iter(recorded), None, []
    for call, result, after in zip(calls, results, memories, strict=True):
        solved, *spread = result.diagnostics
        for i in range(len(case.requests[call])):
            entry, trace = next(optimised)
            yield from value_checks(solved, i, case.part(entry["name"]), trace)
        for found in (found for found in spread if "pass" in found and bool(found["taken"].any())):
            entry = next(layers)
            yield from _layer_checks(case, editor, found, entry, memory)
            if found["layer"] == min(editor.settings.layers):
                distances.append(found["distance"])
        memory = after
    yield Check("layers", float(len(list(layers))), EXACT)
    if len(calls) == 1:
        for ours, theirs in zip(distances, case.outputs["dist_at_pass"], strict=False):
            yield Check("distance", absolute(ours, theirs) / max(theirs), VALUE)
    yield from between_checks(case, editor, states, memories)
    yield from delta_checks(case, case.lm, states[-1])
    yield from behaviour_checks(case, case.lm, states[-1])


def _layer_checks(
    case: Recorded, editor: MultiLayerEditor, found: Mapping[str, Any], entry: Mapping[str, Any], memory: Any
) -> Iterator[Check]:
    """One layer of one pass."""
    layer, taken = found["layer"], found["taken"]
    wanted, same = case.part(entry["name"]), taken.nonzero()[:, 0].tolist() == list(entry["taken"])
    yield Check("taken", float((layer, found["pass"], same) != (entry["layer"], entry["pass"], True)), EXACT)
    neurons = entry["neurons"]  # by decreasing score
    yield Check("neurons", float(found["neurons"][0].nonzero()[:, 0].tolist() != sorted(neurons)), EXACT)
    yield Check("K", relative(found["K"][0][taken].T, wanted["keys"]), VALUE)
    yield Check("R", relative(found["R"][0][taken].T, wanted["resid"]), VALUE)
    yield Check("residual", relative(found["residual"][taken].T, wanted["targets"]), VALUE)
    yield Check("adj_k", relative(found["adj_k"][0][taken][:, neurons].T, wanted["adj_k"]), VALUE)
    previous = PreviousKeys.read(memory, layer, editor.lm.device)
    closed = editor.adjust_keys(layer, wanted["keys"].T[None].double(), previous).rows[0].T
    if memory is None:  # else ours are the earlier keys, not those recorded
        yield Check("adj_k given inputs", relative(closed[neurons], wanted["adj_k"]), CLOSED_FORM)
    update = case.ours(wanted["upd_raw"]).T
    yield Check("update given inputs", relative(closed @ wanted["resid"].T.double(), update), VALUE)
