"""A guard that fails where something is computed in bfloat16 or float16 on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

NARROW = (torch.bfloat16, torch.float16)


class NarrowKernelError(AssertionError):
    """An operation made a narrow tensor on a CPU."""


class NoNarrowKernels(TorchDispatchMode):
    """Context manager: inside, every operation whose result is narrow and on a CPU is an error.

    Reading a narrow tensor into a wide one passes: this is how a checkpoint of any type is loaded.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu" and tensor.dtype in NARROW:
                raise NarrowKernelError(f"{func} made {tensor.dtype} on a CPU")
        return made
