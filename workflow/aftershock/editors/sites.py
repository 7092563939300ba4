"""Matrices of a layer by their place in it, for editors that change others than the MLP's last one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from aftershock.editors.contract import Contexts, Editor
from aftershock.editors.settings import Layers
from aftershock.lm.families import family_of

if TYPE_CHECKING:
    from aftershock.lm.model import LanguageModel

Site = Literal["attention", "in", "gate", "up", "out"]
"""All matrices of the attention; the MLP's first ones, all or one of a gated MLP; the MLP's last one."""

Sites = Mapping[Site, Layers | None]
"""Sites, each in those of the edited layers that it names; null: in all of them."""


class SiteEditor(Editor):
    """An editor of the matrices at the sites `modules` of its settings."""

    def __init__(
        self,
        lm: "LanguageModel",
        settings: Any,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        self.modules = modules_at(lm, settings.modules, settings.layers)

    @property
    def changed_modules(self) -> tuple[str, ...]:
        """The modules that the settings name."""
        return tuple(self.modules)


def modules_at(lm: "LanguageModel", sites: Sites, layers: Sequence[int]) -> list[str]:
    """Return the modules that `sites` stand for in `layers`, from the lowest layer on.

    ValueError when the model's layers have no such site, and when no module is left.
    """
    if fault := fault_of_sites(sites, layers, lm.model.config.model_type):
        raise ValueError(fault)
    found = []
    for layer in sorted(set(layers)):
        known = sites_of(lm, layer)
        for site in (name for name in known if name in sites):
            named = sites[site]  # type: ignore[index]
            if named is None or layer in named:
                found += [module for module in known[site] if module not in found]
    return found


def fault_of_sites(sites: Sites, layers: Sequence[int], family: str) -> str | None:
    """Return why `sites` name no modules in `layers` of a model of a family; None where they do."""
    known = ["attention", "in", *(site for site in family_of(family).sites if site != "in")]
    if unknown := sorted(set(sites) - set(known)):
        return (
            f"modules: layers of a {family} model have no {', '.join(unknown)}; they have {', '.join(known)}"
        )
    if any(named is None or set(named) & set(layers) for named in sites.values()):
        return None
    return (
        f"modules {dict(sites)} name no module in layers {sorted(layers)}; `layers` has to hold every layer "
        "that `modules` names"
    )


def sites_of(lm: "LanguageModel", layer: int) -> dict[str, list[str]]:
    """Return the matrices of a layer by site."""
    inside = lm.layer(layer)
    matrices = [
        name
        for name, module in lm.model.named_modules()
        if name.startswith(f"{inside}.") and getattr(getattr(module, "weight", None), "ndim", 0) == 2
    ]
    places = {name: [template.format(layer)] for name, template in lm.family.sites.items()}
    first = [template.format(layer) for template in lm.family.inputs]
    beside = [name for name in matrices if not lm.is_in_mlp(name, layer)]
    return {"attention": beside, "in": first, **places}
