"""The layers of a model above one, run many times over the same tokens from different hidden states.

Passes of an optimisation differ in the states that they start from alone. What the model makes beside them
(masks, rotations) stays the same, and on a small model making it takes as long as the layers themselves.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from aftershock.lm.hooks import start_after_layer
from aftershock.lm.model import LanguageModel


class UpperLayers:
    """Passes of the layers above `after` over the tokens `ids`, with the further `inputs` of the model.

    The first pass is the model's own. Later ones call each layer with what that one called it with, and then
    the final norm. No layer's output may be taken for the input of another than the next.
    """

    def __init__(self, lm: LanguageModel, after: int, ids: Tensor, **inputs: Any) -> None:
        self._lm, self._after, self._ids, self._inputs = lm, after, ids, inputs
        numbers = range(after + 1, lm.n_layers)
        self._layers = [lm.model.get_submodule(lm.layer(number)) for number in numbers]
        self._norm = lm.model.get_submodule(lm.family.norm)
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._embedded: Tensor | None = None

    def __call__(self, hidden: Tensor | None) -> Tensor:
        """Return the hidden states after the final norm, of those after layer `after`; None if that is -1."""
        if not self._calls:
            return self._first(hidden)
        hidden = self._embedded if hidden is None else hidden
        for layer, (args, more) in zip(self._layers, self._calls, strict=True):
            made = layer(hidden, *args, **more)
            hidden = made[0] if isinstance(made, tuple) else made
        return self._norm(hidden).to(self._lm.device)

    def _first(self, hidden: Tensor | None) -> Tensor:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        with start_after_layer(self._lm, self._after, hidden), _recorded(self._layers, calls):
            out = self._lm.run(self._ids, **self._inputs)
        if hidden is None:
            self._embedded = calls[0][0][0]
        self._calls = [(args[1:], more) for args, more in calls]
        return out


@contextmanager
def _recorded(layers: list[nn.Module], calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    """Context manager: adds the arguments of each call of one of `layers` to `calls`."""

    def hook(module: nn.Module, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        calls.append((args, more))

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield
