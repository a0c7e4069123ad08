"""benchmarks/soak.md: a dated section a soak, the newest first."""
import datetime
import pathlib
from collections.abc import Mapping, Sequence

from benchmarks import table
from benchmarks.soak.drive import Seen
from benchmarks.soak.legs import KEEP, Leg
from benchmarks.soak.watch import growth

INTRO = f"""# soak

`make soak MINUTES=20`: the quickstart's task with smaller batches, a run for each line, with evaluations and checkpoints; killed with
SIGKILL at random moments and given the same command again. Looked for: a row of metrics or a draw that is missing or stands twice;
other bits than those of the run that was never killed, where nobody else asks the engine and nothing runs ahead; files that such a
run has not; more than {KEEP} checkpoints and the best; growth of one process's memory (by 5 % and 32 MiB), threads or open files;
answers of 5xx to clients that stream, leave or lose patience. Growth is the median of a process's last quarter against that of its
second, for the process that grew most. The newest stands first.
"""
HEADER = ("run", "steps", "kills", "seconds", "memory, MiB", "threads", "open files", "checkpoints", "calls", "seen")


def write(path: pathlib.Path, seen: Mapping[Leg, Seen], steps: int, minutes: float, seed: int) -> str:
    """Puts a section before those that are there; returns it."""
    new = section(seen, steps, minutes, seed)
    before = path.read_text() if path.exists() else ""
    earlier = "".join(f"\n## {text}" for text in before.split("\n## ")[1:])
    path.write_text(f"{INTRO}\n{new}{earlier}")
    return new


def section(seen: Mapping[Leg, Seen], steps: int, minutes: float, seed: int) -> str:
    problems = sum(len(found.problems) for found in seen.values())
    kills = sum(found.kills for found in seen.values())
    title = f"## {datetime.date.today()}: {minutes:.0f} minutes, {kills} kills, {f'{problems} PROBLEMS' if problems else 'all well'}"
    lines = [line(leg, found, steps) for leg, found in seen.items()]
    return f"{title}\n\n{table.circumstances()} Seed {seed}.\n\n{table.rows(HEADER, lines)}"


def line(leg: Leg, found: Seen, steps: int) -> list[str]:
    most = most_grown(found, steps)
    calls = ", ".join(f"{number} {what}" for what, number in sorted(found.calls.items()))
    good = "the same bits" if leg.repeats and leg.killed else "all well"
    wrong = "; ".join(found.problems).replace("|", "/").replace("\n", " ")
    kept = max((sample.checkpoints for samples in found.attempts for sample in samples), default=0)
    return [leg.name, str(steps), str(found.kills), f"{found.seconds:.0f}", shown(most, "memory", 2**20), shown(most, "threads"),
            shown(most, "files"), f"at most {kept}", calls or "-", f"**{wrong}**" if wrong else good]


def most_grown(found: Seen, steps: int) -> Mapping[str, tuple[float, float]]:
    """The figures of the process whose memory grew most; empty where none lived long enough."""
    figures: Sequence[Mapping[str, tuple[float, float]]] = [growth(samples, steps) for samples in found.attempts]
    told = [figure for figure in figures if figure]
    return max(told, key=lambda figure: figure["memory"][1] - figure["memory"][0], default={})


def shown(figures: Mapping[str, tuple[float, float]], name: str, unit: int = 1) -> str:
    if not figures:
        return "too short"
    early, late = figures[name]
    return f"{early / unit:,.0f} to {late / unit:,.0f}"
