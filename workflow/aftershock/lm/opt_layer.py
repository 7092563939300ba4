"""OPT's layer with its MLP as a module, which the rest of the code runs, watches and replaces by name."""

from typing import Any

from torch import Tensor, nn


class OptLayer(nn.Module):
    """A layer that normalises before attention and MLP, with the modules and parameters of `layer`."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, child in layer.named_children():
            setattr(self, name, child)
        self.mlp = OptMlp(self)

    def forward(self, hidden: Tensor, **options: Any) -> Tensor:
        """Return the residual stream after the layer, (batch, seq, d_model)."""
        attended, _ = self.self_attn(hidden_states=self.self_attn_layer_norm(hidden), **options)
        stream = hidden + attended
        return stream + self.mlp(self.final_layer_norm(stream))


class OptMlp(nn.Module):
    """The MLP of a layer, which keeps both matrices under the names that they are stored by."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = (layer,)  # in a tuple: its parameters are not also this module's

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the MLP's output, (batch, seq, d_model)."""
        (layer,) = self._layer
        return layer.fc2(layer.activation_fn(layer.fc1(hidden)))
