"""The base of editors of optimised values: their objective, and the norm that values are brought to."""

from dataclasses import fields, replace
from functools import cached_property

from aftershock.editors.contexts import PLAIN, ContextEditor
from aftershock.lm.optimisation.objective import Objective, trimmed_mean
from aftershock.lm.optimisation.values import solve_values
from aftershock.lm.statistics.probe_facts import FACTS
from aftershock.requests import EditRequest


class ValueEditor(ContextEditor):
    """An editor of optimised values; its settings inherit `settings.ValueOptions`."""

    @property
    def site(self) -> str:
        """The output to which a value is added, as `Objective` names it."""
        return "mlp"

    @property
    def value_layers(self) -> tuple[int, ...]:
        """The layers that have values."""
        return tuple(sorted(set(self.settings.layers)))

    def objective(self, layer: int) -> Objective:
        """Return how values of `layer` are optimised: by the settings that have an objective's names."""
        return replace(self._free_objective(layer), norm_anchor=self.norm_anchors.get(layer))

    def _free_objective(self, layer: int) -> Objective:
        """The objective without a norm anchor."""
        names = [field.name for field in fields(Objective) if hasattr(self.settings, field.name)]
        given = {name: getattr(self.settings, name) for name in names}
        return Objective(layer=layer, site=self.site, **(given | {"norm_anchor": None}))

    @cached_property
    def norm_anchors(self) -> dict[int, float]:
        """The norm of values in each layer; empty where it is free."""
        anchor = self.settings.norm_anchor
        if anchor == "auto":
            return {layer: self._usual_norm(layer) for layer in self.value_layers}
        return {} if anchor is None else dict.fromkeys(self.value_layers, anchor)

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """The norm of values by layer, where it is measured."""
        anchor = getattr(self.settings, "norm_anchor", None)
        return {"norm_anchor": self.norm_anchors} if anchor == "auto" else {}

    def _usual_norm(self, layer: int) -> float:
        """The mean norm of the values of probe facts on the unedited model, the largest left out."""
        requests = [EditRequest(*fact) for fact in FACTS]
        found = solve_values(self.lm, requests, [PLAIN], self._free_objective(layer))
        norms = found.norms[[reason is None for reason in found.reasons]]
        if not len(norms):
            raise ValueError(
                f"norm_anchor: auto cannot be measured at layer {layer}: {found.reasons[0]} for every probe "
                "fact; give a number"
            )
        return trimmed_mean(norms)
