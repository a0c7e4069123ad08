"""A program's kernels in words: the dearest, grouped by what they come from, and how far all of them are from the program's floor."""
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.instructions import Module
from jaxrl_moe.planning.kernels import Kernel, Table, kernel_table, least_bytes, open_loop

# Steps of a source that say how a thing was traced, not what it is.
_HOW = ("while", "body", "cond", "closed_call", "checkpoint", "rematted_computation", "shard_map", "pjit", "scan", "remat", "")
_BRANCH = re.compile(r"branch_\d+_fun")
_WRAPPER = re.compile(r"^\w+\((.*)\)$")


class Least(NamedTuple):
    """What a program cannot do without: FLOPs of the model's products, and bytes that are read and written once."""
    flops: float
    bytes: float

    def seconds(self, chip: Chip) -> float:
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)


def program_lines(title: str, module: Module, chip: Chip, *, flops: float = 0.0, least: float | None = None, **options) -> list[str]:
    """The lines of a whole program.

    Args:
      flops: of the model, on one device; least: bytes, None for those of least_bytes.
      options: of kernel_lines.
    """
    floor = Least(flops, least_bytes(module) if least is None else least)
    return kernel_lines(kernel_table(module, chip), chip, title, floor, **options)


def step_lines(title: str, module: Module, chip: Chip, *, flops: float = 0.0, least: float | None = None, **options) -> list[str]:
    """Likewise of one trip of a program's outermost loop of unknown trips; of the whole program, where it has no such loop."""
    within = open_loop(module)
    floor = Least(flops, least_bytes(module, within) if least is None else least)
    return kernel_lines(kernel_table(module, chip, within=within), chip, title, floor, **options)


def kernel_lines(table: Table, chip: Chip, title: str, least: Least, *, launch: float = 0.0, count: int = 20) -> list[str]:
    """What a program launches, and its dearest kernels.

    Args:
      title: what the program is, and the chip's name.
      launch: seconds that are assumed for each launch beside its work.
      count: groups of kernels that are listed.
    """
    whole, floor = table.seconds(chip, launch), least.seconds(chip)
    assumed = f", {launch * 1e6:g} us assumed for each launch" if launch else ""
    bound = "products" if least.flops / chip.flops >= least.bytes / chip.bandwidth else "memory"
    linked = f", {table.link / 1e9:,.2f} GB over links" if table.link else ""
    return [f"{title}: {table.launches:,} kernels, {table.bytes / 1e9:,.2f} GB moved, {table.flops / 1e12:,.3f} TFLOPs of products"
            f"{linked}; at least {_time(whole)} kernel after kernel{assumed}; floor {_time(floor)} ({bound}), "
            f"{floor / whole if whole else 1:.1%} of it",
            *_group_lines(table, chip, launch, whole, count), *_unknown_lines(table)]


def groups(kernels: Sequence[Kernel]) -> dict[tuple[str, str, str], list[Kernel]]:
    """{(what they come from, kind, shapes of the results): kernels}."""
    found = defaultdict(list)
    for kernel in kernels:
        found[label(kernel.source) or kernel.name.rstrip(".0123456789"), kernel.kind, _plain(kernel.shape)].append(kernel)
    return dict(found)


def label(source: str) -> str:
    """The last two meaningful steps of a source, and whether it belongs to a backward pass."""
    steps = [_unwrapped(step) for step in source.split("/")[1:]]
    named = [step for step in steps if step not in _HOW and not _BRANCH.fullmatch(step)] or [source]
    return "/".join(named[-2:]) + (" (backward)" if "transpose(" in source else "")


def _unwrapped(step: str) -> str:
    while match := _WRAPPER.match(step):
        step = match[1]
    return step


def _plain(shape: str) -> str:
    """Types without layouts and comments."""
    return re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape)


def _group_lines(table: Table, chip: Chip, launch: float, whole: float, count: int) -> list[str]:
    found = groups(table.kernels)
    seconds = {key: sum(kernel.seconds(chip, launch) for kernel in kernels) for key, kernels in found.items()}
    first = sorted(found, key=seconds.get, reverse=True)[:count]
    lines = [f"  {'time':>10} {'share':>6} {'launches':>9} {'GB':>10} {'TFLOPs':>9}  what, kind, result"]
    for key in first:
        part = Table(tuple(found[key]))
        flops = "unknown" if any(kernel.flops is None for kernel in part.kernels) else f"{part.flops / 1e12:,.3f}"
        lines.append(f"  {_time(seconds[key]):>10} {seconds[key] / whole if whole else 0:>6.1%} {part.launches:>9,} "
                     f"{part.bytes / 1e9:>10,.3f} {flops:>9}  {', '.join(key)[:140]}")
    if len(found) > count:
        rest = Table(tuple(kernel for key in found if key not in first for kernel in found[key]))
        lines.append(f"  {_time(rest.seconds(chip, launch)):>10} {rest.seconds(chip, launch) / whole if whole else 0:>6.1%} "
                     f"{rest.launches:>9,} {rest.bytes / 1e9:>10,.3f} {rest.flops / 1e12:>9,.3f}  {len(found) - count} other groups")
    return lines


def _unknown_lines(table: Table) -> list[str]:
    """What the figures do not know."""
    lines = [f"  trips unknown: {loop.name}, {label(loop.source)}, entered {loop.entered:,} times, counted with {loop.trips} "
             f"trip{'s' * (loop.trips != 1)} of {loop.launches:,} kernels each" for loop in table.loops]
    for branching in table.branchings:
        lines.append(f"  conditional: {branching.name}, {label(branching.source)}, reached {branching.entered:,} times, the dearest "
                     f"branch is counted: {', '.join(map(_time, branching.seconds))}")
    calls = Counter()
    for kernel in table.kernels:
        calls[kernel.kind] += kernel.launches if kernel.flops is None else 0
    return lines + [f"  FLOPs unknown, counted as none: {launches:,} launches of {kind}" for kind, launches in calls.items() if launches]


def _time(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= size), ("us", 1e-6))
    return f"{seconds / size:,.3g} {unit}" if seconds < 1000 else f"{seconds:,.0f} s"
