"""A problem's file, run: its module, with sizes of one's choice. Runs in the sandbox; needs torch."""
import types
from collections.abc import Mapping
from typing import Any

import torch


def load(source: str, name: str, sizes: Mapping[str, int]) -> types.ModuleType:
    """Runs a file, and sets its module-level integers to other sizes: its functions read them as they are
    called.

    Raises:
      Exception: whatever the file raises; ValueError where it has no such integer.
    """
    module = types.ModuleType(name)
    module.__file__ = f"{name}.py"
    exec(compile(source, module.__file__, "exec"),
         module.__dict__)  # noqa: S102  # this is what the sandbox is for
    for size, value in sizes.items():
        if type(getattr(module, size, None)) is not int:
            raise ValueError(f"the problem has no integer {size}")
        setattr(module, size, value)
    return module


def model(module: types.ModuleType, entry: str, seed: int, arguments: list[Any],
          device: str) -> torch.nn.Module:
    """An instance with weights that follow from the seed."""
    torch.manual_seed(seed)
    return getattr(module, entry)(*arguments).to(device).eval()


def inputs(module: types.ModuleType, seed: int) -> list[Any]:
    """What forward is called with, by a seed."""
    torch.manual_seed(seed)
    return list(module.get_inputs())
