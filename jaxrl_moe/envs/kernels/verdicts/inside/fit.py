"""Sizes at which an interpreter can run a problem that names none: its module-level integers made smaller
together, as far as its own module still takes what its own inputs are. Runs in the sandbox; needs torch."""
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import problem
import torch

_KEPT = 8  # integers up to it are widths of kernels, strides and counts of heads, more often than sizes
_LEAST = 4  # that the others come to
_POWERS = 24  # of two, by which they may shrink


def sizes(source: str, seed: int, most: int) -> list[dict[str, int]]:
    """One or two mappings, the second with one that is larger by 1.

    Args:
      most: elements that inputs, weights and output may have together.

    Raises:
      ValueError: no factor will do.
    """
    module = problem.load(source, "problem", {})
    integers = {name: value for name, value in vars(module).items()
                if type(value) is int and value > _KEPT and not name.startswith("_")}
    if math.isfinite(_elements(source, integers, seed, "meta")):
        chosen = _halved(source, integers, seed, most)
    else:  # it looks at numbers, which meta tensors have none of
        chosen = next((each for each in _grown(integers) if _elements(source, each, seed, "cpu") <= most),
                      None)
    if chosen is None:
        raise ValueError(f"its inputs, weights and output have more than {most} elements, and its integers "
                         f"{', '.join(integers) or '(it has none)'} could not be made smaller together: "
                         "give it SMALL = {name: size, ...} with sizes for the interpreter")
    odd = ({**chosen, name: value + 1} for name, value in chosen.items())
    return [chosen, *[each for each in odd if _elements(source, each, seed, "cpu") <= 2 * most][:1]]


def _halved(source: str, sizes: dict[str, int], seed: int, most: int) -> dict[str, int] | None:
    """The largest that can be is halved, alone or with others, until all is small enough."""
    while _elements(source, sizes, seed, "meta") > most:
        names = sorted((name for name, value in sizes.items() if value // 2 >= _LEAST), key=sizes.get,
                       reverse=True)
        tries = [each for count in (1, 2, len(names)) for each in itertools.combinations(names, count)
                 if names]
        fewer = ({name: value // 2 if name in chosen else value for name, value in sizes.items()}
                 for chosen in tries)
        sizes = next((each for each in fewer if math.isfinite(_elements(source, each, seed, "meta"))), None)
        if sizes is None:
            return None
    return sizes


def _grown(integers: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """All of them smaller by the same factor, the smallest first."""
    for power in reversed(range(_POWERS)):
        yield {name: max(_LEAST, value >> power) for name, value in integers.items()}


def _elements(source: str, chosen: Mapping[str, int], seed: int, device: str) -> float:
    """Of inputs, weights and output, on "meta" without memory for any; infinite where the module does not
    take them."""
    module = problem.load(source, "problem", chosen)
    try:
        with torch.device(device), torch.no_grad():
            inputs = problem.inputs(module, seed)
            model = problem.model(module, "Model", seed, list(module.get_init_inputs()), device)
            values = [*inputs, *model.parameters(), *model.buffers(), *_listed(model(*inputs))]
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, ZeroDivisionError):
        return float("inf")
    return sum(each.numel() for each in values if isinstance(each, torch.Tensor))


def _listed(output: Any) -> list[Any]:
    return list(output) if isinstance(output, list | tuple) else [output]
