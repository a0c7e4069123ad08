"""benchmarks/soak.md: a dated section a soak, the newest first."""
import datetime
import pathlib
from collections.abc import Mapping, Sequence

from benchmarks import table
from benchmarks.soak.drive import Seen
from benchmarks.soak.legs import KEEP
from benchmarks.soak.watch import FILES, MEMORY_BYTES, MEMORY_SHARE, THREADS, growth

MEMORY = f"{MEMORY_SHARE:.0%} and {MEMORY_BYTES >> 20} MiB"
INTRO = f"""# soak

`make soak MINUTES=20`: the quickstart's task with smaller batches, a run for each line, with evaluations
and checkpoints; killed with SIGKILL at random moments and given the same command again. Looked for: a row
of metrics or a draw that is missing or stands twice; other bits than those of the run that was never
killed, where nobody else asks the engine and nothing runs ahead; files that such a run has not; more than
{KEEP} checkpoints and the best; growth of one process's memory (by {MEMORY}), threads (by {THREADS}) or
open files (by {FILES}); answers of 5xx to clients that stream, leave or lose patience. Growth is the median
of a process's last quarter against that of its second, for the process that grew most. The newest stands
first.
"""
HEADER = ("run", "steps", "kills", "seconds", "memory, MiB", "threads", "open files", "checkpoints", "calls",
          "seen")


def write(path: pathlib.Path, new: str) -> str:
    return table.put_first(path, INTRO, new)


def section(seen: Sequence[Seen], steps: int, minutes: float, circumstances: str) -> str:
    """What was seen of a soak's legs, with what it holds for."""
    problems = sum(len(leg_seen.problems) for leg_seen in seen)
    kills = sum(leg_seen.kills for leg_seen in seen)
    result = f"{problems} PROBLEMS" if problems else "all well"
    title = f"## {today()}: {minutes:.0f} minutes, {kills} kills, {result}"
    lines = [line(leg_seen, steps) for leg_seen in seen]
    return f"{title}\n\n{circumstances}\n\n{table.rows(HEADER, lines)}"


def today() -> datetime.date:
    return datetime.date.today()


def line(seen: Seen, steps: int) -> list[str]:
    """A row of the table."""
    most = most_grown(seen, steps)
    calls = ", ".join(f"{number} {what}" for what, number in sorted(seen.calls.items()))
    good = "the same bits" if seen.leg.repeats and seen.leg.killed else "all well"
    wrong = "; ".join(seen.problems).replace("|", "/").replace("\n", " ")
    kept = max((sample.checkpoints for samples in seen.attempts for sample in samples), default=0)
    return [seen.leg.name, str(steps), str(seen.kills), f"{seen.seconds:.0f}", shown(most, "memory", 2**20),
            shown(most, "threads"), shown(most, "files"), f"at most {kept}", calls or "-",
            f"**{wrong}**" if wrong else good]


def most_grown(seen: Seen, steps: int) -> Mapping[str, tuple[float, float]]:
    """The figures of the process whose memory grew most; empty where none lived long enough."""
    figures = [growth(samples, steps, seen.leg.served) for samples in seen.attempts]
    told = [figure for figure in figures if figure]
    return max(told, key=lambda figure: figure["memory"][1] - figure["memory"][0], default={})


def shown(figures: Mapping[str, tuple[float, float]], name: str, unit: int = 1) -> str:
    if not figures:
        return "too short"
    early, late = figures[name]
    return f"{early / unit:,.0f} to {late / unit:,.0f}"
