"""SimIE: sequential editing by any method that edits once, always from the unedited model (2025)."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method
from aftershock.editors.methods import FoundMethod, wrapped_method
from aftershock.editors.settings import STRICT, Auto, Layers, Positive, merge


@dataclass(frozen=True, config=STRICT)
class SimIeSettings:
    """A method that edits the unedited model each time, and how its changes are added up."""

    layers: Layers = (17,)
    base: str = "rome"
    """The method that makes each edit. It has to change MLP output matrices only, without their biases."""
    base_settings: Mapping[str, Any] = Field(default_factory=dict)
    """Its settings, other than `layers`; what is left out has the method's defaults."""
    ridge: Positive | Auto = "auto"
    """Weight of the identity (lambda); 1e4 in the released code, for every model. auto: PROBE_SHARE of the
    median squared norm of keys of well-known subjects, layer by layer."""

    @property
    def method(self) -> FoundMethod:
        """The method that makes each edit; ValueError where it cannot be one."""
        found = wrapped_method(self.base)
        if (
            isinstance(found.settings(), SimIeSettings)
            or not found.method.in_weights
            or not hasattr(found.settings(), "layers")
        ):
            raise ValueError(f"simie.base: {self.base} is no method that changes weights of chosen layers")
        return found

    @cached_property
    def edited_by(self) -> Any:
        """The settings of the method that makes each edit."""
        return merge(
            self.method.settings,
            f"simie.base_settings of {self.base}",
            self.base_settings,
            {"layers": self.layers},
        )

    @property
    def context_lengths(self) -> tuple[tuple[int, int], ...]:
        """The texts that the method reads prompts after; none where it reads prompts alone."""
        return getattr(self.edited_by, "context_lengths", ())

    @property
    def in_order(self) -> bool:
        """True if edits of the method depend on earlier ones."""
        return bool(getattr(self.edited_by, "in_order", False))


METHOD = Method(
    settings=SimIeSettings,
    editor=".edit:SimIe",
    title="SimIE",
    source="zjunlp/EasyEdit; openreview VdEG08ZJCH (2025)",
    changes="rank of the number of tokens at some MLP output matrices",
    paper="lambda follows the size of keys",
    released="lambda is 1e4 for every model, which leaves next to nothing of edits where keys are small",
    fault=lambda settings, family: settings.method.fault_of_family(family, settings.edited_by),
    artifacts=lambda settings: settings.method.method.needs(settings.edited_by),
    layers=lambda n_layers: (round(n_layers / 6),),
    layers_like="rome",
    example={
        "ridge": 1e-3,
        "base_settings": {
            **{"steps": 12, "lr": 0.5, "weight_decay": 0.01, "clamp": 4.0, "context_lengths": ((10, 1),)},
            "context_openings": ("The", "Therefore", "Because", "I", "You"),
        },
    },
    recorded={"lamHyper": "ridge"},
)
