"""SimIE around ROME on recorded cases: the base edits, keys, and the weights after each edit."""

from collections.abc import Iterator

import torch

from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.settings import as_values
from aftershock.lm.edits import State, join
from recorded import DELTA, EXACT, VALUE, Check, NotCoveredError, Recorded, relative
from recorded_edits import behaviour_checks, delta_checks, flat
from recorded_settings import NOWHERE, settings_from

WITHOUT_EFFECT = {"solver", "fast", *NOWHERE}
"""Ways to solve the same equations, and where."""


def check_simie(case: Recorded) -> Iterator[Check]:
    """Each request is an edit, which the base method makes on the unedited model."""
    lm, hparams = case.lm, dict(case.inputs["hparams"])
    base, fixed = hparams.pop("base"), (hparams.pop("base_method"), hparams.pop("init_model"))
    ridge = hparams.pop("lamHyper")
    if fixed != ("ROME", True) or set(hparams) - WITHOUT_EFFECT:
        raise NotCoveredError(f"base_method, init_model {fixed}, {sorted(set(hparams) - WITHOUT_EFFECT)}")
    own = as_values(settings_from("rome", base, lm))
    layers = own.pop("layers")
    settings = settings_of("simie", {"base": "rome", "base_settings": own, "layers": layers, "ridge": ridge})
    editor = method_of("simie").make(
        lm, settings, {"moments": case.moments}, contexts=[flat(case.inputs["context_templates"])]
    )
    state: State = ()
    memory = None
    for number, request in enumerate(case.requests):
        result = editor.edit([[request]], state, memory)
        state, memory = state + result.delta, result.memory
        (tokens,) = case.inputs["intermediate"][number]["input_ids"]
        yield Check("tokens", float(lm.encode([f"{request.text} {request.target_new}"])[0] != tokens), EXACT)
        for found in result.diagnostics:
            weight = f"{lm.projection(found['layer'])}.weight"
            wanted = {
                name: case.tensors[f"edit{number}.{name}.{weight}"] for name in ("K", "P", "base_delta")
            }
            yield Check("base dW", relative(found["base"].dense()[0], case.ours(wanted["base_delta"])), DELTA)
            yield Check("K", relative(found["K"][0], wanted["K"]), VALUE)
            S = PreviousKeys.read(memory, found["layer"], lm.device).total(found["K"])[0]
            P = S + ridge * torch.eye(len(S), dtype=S.dtype)
            yield Check("P", relative(P, wanted["P"]), VALUE)
            change = sum(d.dense()[0] for d in join(state) if f"{d.module}.weight" == weight)
            after = case.ours(case.tensors[f"edit{number}.W_delta.{weight}"])
            yield Check("dW between", relative(change, after), DELTA)
    yield from delta_checks(case, lm, state)
    yield from behaviour_checks(case, lm, state)
