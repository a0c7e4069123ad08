"""benchmarks/kills.md: a dated section a time, the newest first."""
import datetime
import pathlib
from collections.abc import Sequence

from benchmarks import table
from benchmarks.kills.signals import Seen

INTRO = """# kills

`make kills`: a run of seconds (the quickstart's task with a tiny model: SFT, RL, export, plots; a checkpoint
after every step), sent signals at random moments of its whole life, from its start to its last file, and
given the same command again until it has finished; and started on a disk that is full where it writes to
each of some places, then with space again. Looked for: another bit of the adapter, the model, the data, the
trajectories, the checkpoint's arrays or the metrics (but for times) than in a run that nothing disturbed;
a file that such a run has not, or that is missing; an exit code that tells of something else; a traceback, or
more than a paragraph on stderr; of a full disk, a message that does not say so or does not name the file. The
newest stands first.
"""
HEADER = ("what", "met", "runs", "seconds", "seen")


def write(path: pathlib.Path, new: str) -> str:
    return table.put_first(path, INTRO, new)


def section(seen: Sequence[Seen], life: float, minutes: float, circumstances: str) -> str:
    """What came of all kinds, with what it holds for."""
    problems = sum(len(kind.problems) for kind in seen)
    result = f"{problems} PROBLEMS" if problems else "all well"
    title = f"## {datetime.date.today()}: {minutes:.0f} minutes, {result}"
    rows = [[kind.name, kind.sent, kind.runs, f"{kind.seconds:.0f}", _told(kind)] for kind in seen]
    return (f"{title}\n\n{circumstances} An undisturbed run took {life:.0f} seconds.\n\n"
            f"{table.rows(HEADER, rows)}")


def _told(kind: Seen) -> str:
    if not kind.problems:
        return "the same bits" if kind.runs else "-"
    return f"**{'; '.join(kind.problems)}**".replace("|", "/").replace("\n", " ")
