"""Hyperparameters of the released code and our settings, one mapping per method.

Every hyperparameter of a recorded case is a setting of ours, or fixed to what our editors do, or without
effect on the recorded numbers. A case with any other is not covered: without it the case would be another
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aftershock.editors.methods import method_of, settings_of
from aftershock.lm.model import LanguageModel
from recorded import NotCoveredError

MODULES = {
    "rewrite_module_tmp": ("projection",),
    "layer_module_tmp": ("layer",),
    "mlp_module_tmp": ("mlp", "projection"),  # some releases name the MLP by its last matrix, which ends it
}
"""Templates of module names that must be our family's, each by the places that put out the same."""

NOWHERE = ("alg_name", "model_name", "device", "model_parallel", "stats_dir", "max_length")  # where it ran
NOWHERE += ("mom2_dataset", "mom2_n_samples", "mom2_dtype")  # the second moments are recorded
NOWHERE += ("attn_module_tmp", "ln_f_module", "lm_head_module")  # names of modules that are not edited
"""Hyperparameters without effect on any recorded method."""

VALUE = {
    "layers": "layers",
    "v_num_grad_steps": "steps",
    "v_lr": "lr",
    "v_weight_decay": "weight_decay",
    "clamp_norm_factor": "clamp",
    "kl_factor": "kl_factor",
}


@dataclass(frozen=True)
class Peer:
    """Our settings of a method by the hyperparameters of its released code."""

    settings: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that our editor knows one value of."""
    together: Mapping[tuple[str, ...], tuple[str, Mapping[tuple, Any]]] = field(default_factory=dict)
    """Hyperparameters that choose the value of one setting together."""
    nowhere: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    """Settings that are null where the released code has false, or a whole number."""


ROME = Peer(
    settings={**VALUE, "mom2_adjustment": "mom2_adjustment"},
    fixed={"fact_token": "subject_last", "fp16": False},
    # contexts are recorded; the loss is of the model's own logits; requests are edited in one call
    nowhere=("context_template_length_params", "v_loss_layer", "batch_size"),
)

MULTI_LAYER = Peer(
    settings={**VALUE, "v_loss_layer": "loss_layer"},
    fixed={"fact_token": "subject_last", "fp16": False},
    # the released code ignores the first two; requests are edited in the recorded calls
    nowhere=("mom2_adjustment", "layer_selection", "context_template_length_params", "batch_size"),
)


def multi_layer(method: str, *, nowhere: tuple[str, ...] = (), **changes: Any) -> Peer:
    """The peer of a method that edits several layers; its METHOD says what its own hyperparameters are."""
    own = method_of(method).method.recorded
    return replace(
        MULTI_LAYER,
        settings={**MULTI_LAYER.settings, **own},
        nowhere=(*MULTI_LAYER.nowhere, *nowhere),
        **changes,
    )


PEERS = {
    "ft": Peer(
        settings={
            **{name: name for name in ("layers", "lr", "weight_decay", "batch_size")},
            **{name: name for name in ("wd_power_law", "norm_constraint")},
            **{"num_steps": "steps", "objective_optimization": "objective"},
        },
        fixed={"fp16": False},
        nowhere=("kl_factor",),  # read by nothing
        none=("norm_constraint", "wd_power_law"),
    ),
    "rome": ROME,
    "r_rome": Peer(
        settings=ROME.settings,
        fixed=ROME.fixed,
        together={
            ("original_implementation", "enable_prompt_keys", "enable_random_prefix_keys"): (
                "keys",
                # without the first one the release insists on one of the two, the last by default; with it
                # and the last one direction and division are both of averages
                {
                    (original, prompt, averaged): "prompt" if averaged is False else "averaged"
                    for original in (True, False, None)
                    for prompt in (True, False, None)
                    for averaged in (True, False, None)
                    if (averaged is not False if original else bool(prompt) != (averaged is not False))
                },
            )
        },
        nowhere=ROME.nowhere,
    ),
    "memit": multi_layer("memit"),
    "encore": multi_layer(
        "encore",
        fixed={**MULTI_LAYER.fixed, "norm_control": 0, "random_vector_preservation": False},
        together={
            ("sequential", "add_prev_edits"): (
                "previous_keys",
                {(a, b): bool(a and b) for a in (True, False, None) for b in (True, False, None)},
            )
        },
        # the last one scales what norm_control turns on
        nowhere=("emmet_lambda", "calculate_objective_value", "dynamic_multiplier"),
    ),
    "lyaplock": multi_layer("lyaplock"),
    "nse": multi_layer("nse"),
    "emmet": multi_layer("emmet", nowhere=("calculate_objective_value",)),
    "pmet": multi_layer("pmet"),
    "alphaedit": multi_layer("alphaedit", nowhere=("P_loc", "mom2_update_weight")),
}


def settings_from(
    method: str, hparams: Mapping[str, Any], lm: LanguageModel, changes: Mapping[str, Any] | None = None
) -> Any:
    """Our settings for the released code's hyperparameters; NotCoveredError names what is not known here.

    `changes` are settings that no hyperparameter stands for.
    """
    peer, rest = PEERS[method], dict(hparams)
    for name in set(rest) & set(MODULES):
        if (template := rest.pop(name)) not in [getattr(lm.family, place) for place in MODULES[name]]:
            raise NotCoveredError(f"{name} {template}")
    for name in set(rest) & {*NOWHERE, *peer.nowhere}:
        del rest[name]
    for name in set(rest) & set(peer.fixed):
        if (value := rest.pop(name)) != peer.fixed[name]:
            raise NotCoveredError(f"{name} {value}")
    found = {peer.settings[name]: rest.pop(name) for name in list(rest) if name in peer.settings}
    for names, (setting, values) in peer.together.items():
        chosen = tuple(rest.pop(name, None) for name in names)
        if chosen not in values:
            raise NotCoveredError(", ".join(f"{n} {v}" for n, v in zip(names, chosen, strict=True)))
        found[setting] = values[chosen]
    if rest:
        raise NotCoveredError(", ".join(sorted(rest)))
    if "loss_layer" in found and (layers := found.get("layers", [])) != sorted(layers):
        raise NotCoveredError(f"layers {layers}")  # the release takes the last named, and we the topmost
    for name in set(found) & set(peer.none):
        found[name] = None if isinstance(found[name], int) else found[name]  # it asks for a float
    return settings_of(method, found, changes or {})


def settings_by(method: str, hparams: Mapping[str, Any], ignored: Sequence[str] = (), **more: Any) -> Any:
    """Our settings for hyperparameters by METHOD.recorded; NotCoveredError names what is not known here."""
    names = method_of(method).method.recorded
    if unknown := sorted(set(hparams) - set(names) - set(ignored)):
        raise NotCoveredError(", ".join(f"{name} {hparams[name]}" for name in unknown))
    return settings_of(method, {names[n]: v for n, v in hparams.items() if n in names}, more)
