"""The table of a GPU check, as markdown, from the files of its stages; written anew after each of them."""
import datetime
import pathlib
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence

from benchmarks.gpu import record
from benchmarks.gpu.box import Outcome
from benchmarks.gpu.record import ABSENT, FAILED, Settings
from benchmarks.gpu.stages import Stage
from benchmarks.versions import versions

PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "nvidia-cudnn-cu13", "flax", "optax", "orbax-checkpoint",
            "tokamax", "numpy", "torch", "transformers", "peft")
GOOD = "passed"


def write(path: pathlib.Path, stages: Sequence[Stage], done: Sequence[Outcome], settings: Settings,
          budget: float) -> bool:
    """Writes the table; says whether all stages ran to their end and all their rows are good.

    Args:
      stages: those that were asked for.
      done: what became of them so far.
      settings: whose folder for rows is that of `path`.
      budget: seconds for all of them.
    """
    ended = {outcome.stage: outcome for outcome in done}
    rows = {stage: record.read(rows_file(path.parent, stage)) for stage in stages}
    results = {stage: result(ended.get(stage), rows[stage]) for stage in stages}
    parts = [_heading(settings, budget), _summary(results, ended, rows)]
    parts += [
        _section(stage, ended.get(stage), rows[stage]) for stage in stages if rows[stage] or stage in ended
    ]
    path.write_text("\n".join(parts))
    return all(found == GOOD for found in results.values())


def rows_file(folder: pathlib.Path, stage: Stage) -> pathlib.Path:
    return folder / f"gpu_{stage.letter}.jsonl"


def result(outcome: Outcome | None, rows: Sequence[dict]) -> str:
    """Of a stage, in a word or two."""
    if outcome is None:
        return "NOT RUN"
    if outcome.cut:
        return "CUT"
    if not rows or any(row["status"] == FAILED for row in rows):
        return "FAILED"
    return GOOD


def _heading(settings: Settings, budget: float) -> str:
    what = "A rehearsal of" if settings.rehearse else "Of"
    return (f"# gpu\n\n{datetime.date.today()}, {card()}, Python {platform.python_version()}. "
            f"{versions(PACKAGES)}.\n\n{what} `scripts/gpu_check.sh` with {budget:.0f} s and "
            f"--card={settings.card}"
            + (": tiny shapes on a CPU, whose figures mean nothing.\n" if settings.rehearse else ".\n"))


def card() -> str:
    """The first GPU with its driver, as nvidia-smi has it; only asked, nothing is set."""
    if not shutil.which("nvidia-smi"):
        return "no NVIDIA driver"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20,
                               check=True).stdout.splitlines()
        name, memory, driver = lines[0].split(", ")
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return f"a card that nvidia-smi does not tell of ({record.message(error)})"
    return f"{name} with {memory}, driver {driver}"


def _summary(results, ended, rows) -> str:
    lines = []
    for stage, found in results.items():
        counts = Counter(row["status"] for row in rows[stage])
        outcome = ended.get(stage)
        lines.append((f"{stage.letter}, {stage.title}", found, f"{outcome.seconds:.0f}" if outcome else "",
                      sum(counts.values()), counts[FAILED], counts[ABSENT], outcome.cut if outcome else ""))
    return table(("stage", "result", "seconds", "rows", "failed", ABSENT, "why it ended early"), lines)


def _section(stage: Stage, outcome: Outcome | None, rows: Sequence[dict]) -> str:
    lines = [(row["name"], row["status"], figures(row["values"]), row["note"]) for row in rows]
    cut = f"Not complete: {outcome.cut}.\n\n" if outcome and outcome.cut else ""
    return f"## {stage.letter}: {stage.title}\n\n{cut}" + table(("what", "result", "figures", "note"), lines)


def figures(values: dict) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(header: Sequence[str], lines: Sequence[Sequence]) -> str:
    """A markdown table; bars inside a cell would end it."""
    body = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |"
                     for line in body) + "\n"
