"""A program's kernels in words: the dearest, grouped by what they come from, and how far all are from the
program's floor."""
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.kernels.floor import Least
from jaxrl_moe.planning.kernels.table import Kernel, Table

# Steps of a source that say how something was traced, not what it is.
_HOW = ("while", "body", "cond", "closed_call", "eval_jaxpr", "checkpoint", "rematted_computation",
        "shard_map", "")
_BRANCH = re.compile(r"branch_\d+_fun")
_WRAPPER = re.compile(r"^\w+\((.*)\)$")
_PASSES = {"rematted_computation": "recomputed", "transpose(": "backward"}
_WIDTH = 140  # of what a group is called


def kernel_lines(table: Table, chip: Chip, title: str, least: Least, *, launch: float = 0.0,
                 count: int = 20) -> list[str]:
    """What a program launches, its dearest kernels, and what the figures do not know.

    Args:
      title: what the program is, and the chip's name.
      launch: seconds that are assumed for each launch beside its work.
      count: groups of kernels that are listed.
    """
    whole = table.seconds(chip, launch)
    floor = least.seconds(chip)
    assumed = f", {launch * 1e6:g} us assumed for each launch" if launch else ""
    linked = f", {figure(table.link / 1e9)} GB over links" if table.link else ""
    sums = (f"{table.launches:,} kernels, {figure(table.bytes / 1e9)} GB moved, "
            f"{figure(table.flops / 1e12)} TFLOPs of products{linked}")
    share = f"floor {duration(floor)} ({least.bound(chip)}), {floor / whole if whole else 1:.1%} of it"
    return [f"{title}: {sums}; at least {duration(whole)} one after the other{assumed}; {share}",
            *_group_lines(table, chip, launch, whole, count), *_unknown_lines(table)]


def groups(kernels: Sequence[Kernel]) -> dict[tuple[str, str, str], list[Kernel]]:
    """{(what they come from, kind, types of the results): kernels}; without a source, by name without its
    number."""
    alike = defaultdict(list)
    for kernel in kernels:
        name = label(kernel.source) or kernel.name.rstrip(".0123456789")
        alike[name, kernel.kind, _plain(kernel.shape)].append(kernel)
    return dict(alike)


def label(source: str) -> str:
    """The last two meaningful steps of a source, and which pass it is of; empty if no step means anything."""
    steps = [_unwrapped(step) for step in source.partition(";")[0].split("/")[1:]]
    named = [step for step in steps if step not in _HOW and not _BRANCH.fullmatch(step)]
    passes = [f" ({said})" for mark, said in _PASSES.items() if named and mark in source]
    return "/".join(named[-2:]) + "".join(passes[:1])


def _unwrapped(step: str) -> str:
    """f of transpose(jvp(f))."""
    while match := _WRAPPER.match(step):
        step = match[1]
    return step


def _plain(shape: str) -> str:
    """Types without layouts and comments, and how often each is there."""
    several = Counter(re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape).split())
    return " ".join(f"{count} x {single}" if count > 1 else single for single, count in several.items())


def _group_lines(table: Table, chip: Chip, launch: float, whole: float, count: int) -> list[str]:
    tables = {", ".join(key): Table(tuple(kernels)) for key, kernels in groups(table.kernels).items()}
    ordered = sorted(tables, key=lambda name: tables[name].seconds(chip, launch), reverse=True)
    rest = Table(tuple(kernel for name in ordered[count:] for kernel in tables[name].kernels))
    rows = [(name[:_WIDTH], tables[name]) for name in ordered[:count]]
    rows += [(f"{len(ordered) - count} other groups", rest)] * (len(ordered) > count)
    return [f"  {'time':>9} {'share':>6} {'launches':>9} {'GB':>8} {'TFLOPs':>8}  what, kind, result",
            *(_row(name, group, group.seconds(chip, launch), whole) for name, group in rows)]


def _row(name: str, table: Table, seconds: float, whole: float) -> str:
    flops = "unknown" if any(kernel.flops is None for kernel in table.kernels) else figure(table.flops / 1e12)
    return (f"  {duration(seconds):>9} {seconds / whole if whole else 0:>6.1%} {table.launches:>9,} "
            f"{figure(table.bytes / 1e9):>8} {flops:>8}  {name}")


def _unknown_lines(table: Table) -> list[str]:
    loops = [f"  trips unknown: {loop.name}, {loop.source}, entered {loop.entered:,} times, counted with "
             f"{loop.trips} trip{'s' * (loop.trips != 1)} of {loop.launches:,} "
             "kernels each" for loop in table.loops]
    branchings = [f"  conditional: {branching.name}, {branching.source}, reached {branching.entered:,} "
                  "times, the dearest branch is counted: "
                  f"{', '.join(map(duration, branching.seconds))}" for branching in table.branchings]
    calls = Counter()
    for kernel in table.kernels:
        calls[kernel.kind] += kernel.launches if kernel.flops is None else 0
    unknown = [f"  FLOPs unknown, counted as none: {count:,} "
               f"launches of {kind}" for kind, count in calls.items() if count]
    return loops + branchings + unknown


def duration(seconds: float) -> str:
    """With its unit."""
    units = (("s", 1.0), ("ms", 1e-3))
    unit, size = next((row for row in units if seconds >= row[1]), ("us", 1e-6))
    return f"{figure(seconds / size)} {unit}"


def figure(number: float) -> str:
    """Three digits that count; whole numbers from 100 on."""
    if number < 0.0005:
        return "0"
    return f"{number:,.0f}" if number >= 100 else f"{number:.{2 if number < 1 else 3}g}"
