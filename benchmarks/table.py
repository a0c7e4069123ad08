"""Benchmark results as markdown, with the machine and the versions they hold for."""
import datetime
import os
import pathlib
import platform
import subprocess
from collections.abc import Sequence

from benchmarks.harness import Result
from benchmarks.versions import versions

RESULTS = ("benchmarks/*.md", "benchmarks/*.png")  # what benchmarks write themselves is no change of the code
ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "peft", "trl", "tokamax")
HOW = ("Each contender runs in a process of its own and they take turns; both have all cores and the "
       "allocator setting of `benchmarks/allocator.py`, and the process of ours has no torch.")


def heading(name: str) -> str:
    return f"# {name}\n\n{circumstances()}\n\n"


def circumstances() -> str:
    """Date, commit, machine and versions: when and for what a table holds."""
    return f"{datetime.date.today()}, {commit()}, {machine()}. {versions(PACKAGES)}."


def commit() -> str:
    """The commit that the code stands at, and whether it was changed since; without git it says so."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        others = [f":!{path}" for path in RESULTS]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *others)
    except (OSError, subprocess.CalledProcessError):
        return "commit unknown"
    return f"commit {name}{' with changes' if changed else ''}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> str:
    import jax
    first, *others = jax.devices()
    devices = "" if first.platform == "cpu" else f", {1 + len(others)} x {first.device_kind}"
    return f"{os.cpu_count()} cores of {processor()}{devices}, Python {platform.python_version()}"


def processor() -> str:
    """Its name as Linux tells it, or as Python does."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def markdown(results: Sequence[Result]) -> str:
    """Medians, and the ratio pair by pair: below 1 we are faster."""
    lines = ["| what | against | ours s | theirs s | ratio | range |", "|---|---|---|---|---|---|"]
    for r in results:
        seconds = f"{r.ours_s:.3f} | {r.theirs_s:.3f}"
        lines.append(f"| {r.name} | {r.peer_name} | {seconds} | **{r.ratio:.2f}** | {r.ratio_min:.2f} .. "
                     f"{r.ratio_max:.2f} |")
    idle = max(r.idle_share for r in results)
    return "\n".join(lines) + f"\n\n{HOW} A waiting contender used at most {idle:.0%} of a core.\n"


def put_first(path: pathlib.Path, intro: str, new: str) -> str:
    """Puts a section between a file's introduction and the sections that are there; returns it."""
    before = path.read_text() if path.exists() else ""
    earlier = "".join(f"\n## {text}" for text in before.split("\n## ")[1:])
    path.write_text(f"{intro}\n{new}{earlier}")
    return new


def put_section(path: pathlib.Path, intro: str, name: str, text: str) -> None:
    """Puts a section in the place of the one of its name, or after all others."""
    before = path.read_text() if path.exists() else ""
    sections = dict(section.split("\n", 1) for section in before.split("\n## ")[1:])
    sections[name] = f"\n{text}"
    path.write_text(intro + "".join(f"\n## {title}\n{body}" for title, body in sections.items()))


def rows(header: Sequence[str], values: Sequence[Sequence[object]]) -> str:
    """A plain table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in values]) + "\n"
