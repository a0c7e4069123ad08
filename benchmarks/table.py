"""Benchmark results as markdown, with the machine and the versions they hold for."""
import datetime
import os
import pathlib
import platform
from collections.abc import Sequence

from benchmarks.harness import Result
from benchmarks.versions import versions

PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "peft", "trl", "tokamax")
HOW = ("Each contender runs in a process of its own and they take turns; both have all cores and the allocator setting of "
       "`benchmarks/allocator.py`, and the process of ours has no torch.")


def heading(name: str) -> str:
    return f"# {name}\n\n{datetime.date.today()}, {machine()}. {versions(PACKAGES)}.\n\n"


def machine() -> str:
    import jax
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor()) if pathlib.Path("/proc/cpuinfo").exists() else platform.processor()
    devices = "" if jax.devices()[0].platform == "cpu" else f", {len(jax.devices())} x {jax.devices()[0].device_kind}"
    return f"{os.cpu_count()} cores of {cpu}{devices}, Python {platform.python_version()}"


def markdown(results: Sequence[Result]) -> str:
    """Medians, and the ratio pair by pair: below 1 we are faster."""
    lines = ["| what | against | ours s | theirs s | ratio | range |", "|---|---|---|---|---|---|"]
    for r in results:
        seconds = f"{r.ours_s:.3f} | {r.theirs_s:.3f}"
        lines.append(f"| {r.name} | {r.peer_name} | {seconds} | **{r.ratio:.2f}** | {r.ratio_min:.2f} .. {r.ratio_max:.2f} |")
    idle = max(r.idle_share for r in results)
    return "\n".join(lines) + f"\n\n{HOW} A waiting contender used at most {idle:.0%} of a core.\n"


def rows(header: Sequence[str], values: Sequence[Sequence]) -> str:
    """A plain table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in values]) + "\n"
