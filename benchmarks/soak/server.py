"""A server in a process of its own, watched from outside while clients ask it."""
import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import httpx

from benchmarks import table
from benchmarks.soak import text
from benchmarks.soak.clients import Clients
from benchmarks.soak.watch import Watch, grown, quarters

SOON = 2.0   # seconds within which a short request is answered
PAUSE = 0.2  # between two of them
HEADER = ("short requests", "median s", "99% s", "longest s", "memory, MiB", "threads", "open files", "calls")


@dataclasses.dataclass(frozen=True)
class Watched:
    """row: the cells of HEADER; problems: what is wrong, in words."""
    row: Sequence[str]
    problems: Sequence[str]


@contextlib.contextmanager
def started(options: Sequence[str], pattern: str, folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """(url, process id) of scripts/serve.py with options, once it has printed its URL as the pattern says;
    its log goes to the folder."""
    command = [sys.executable, "scripts/serve.py", *options, "--port=0"]
    process = subprocess.Popen(command, cwd=table.ROOT, env=os.environ | {"PYTHONPATH": str(table.ROOT)},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        found = next(filter(None, (re.search(pattern, line) for line in process.stdout)))
        threading.Thread(target=log, args=(process, folder / "server.log"), daemon=True).start()
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait(60)


def log(process: subprocess.Popen[str], path: pathlib.Path) -> None:
    with path.open("w") as file:
        file.writelines(process.stdout)


def watched(clients: Clients, short: Callable[[threading.Event], Iterable[float]], pid: int, seconds: float,
            folder: pathlib.Path, connections: int = 0) -> Watched:
    """Lets clients ask for a while; `short` yields the seconds of one short request after the other, and
    `connections` come and go, so that the server's files and threads may grow by as many."""
    over = threading.Event()
    took: list[float] = []
    timed = threading.Thread(target=lambda: took.extend(short(over)), daemon=True)
    watch = Watch(pid, folder)
    with clients:
        timed.start()
        while watch.seconds < seconds:
            watch.look()
            time.sleep(PAUSE)
        over.set()
        timed.join()
    figures = quarters(watch.samples)
    problems = [*sorted(set(clients.problems)), *grown(figures, connections), *_late(took)]
    return Watched(_row(clients, took, figures), problems)


def _late(took: Sequence[float]) -> list[str]:
    late = sum(seconds > SOON for seconds in took)
    return [f"{late} of {len(took)} short requests took over {SOON:g} seconds"] * bool(late or not took)


def _row(clients: Clients, took: Sequence[float], figures: dict) -> list[str]:
    calls = ", ".join(f"{number} {what}" for what, number in sorted(clients.seen.items()))
    ordered = sorted(took) or [0.0]
    shares = (ordered[len(ordered) // 2], ordered[int(0.99 * (len(ordered) - 1))], ordered[-1])
    return [f"{len(took)}", *(f"{seconds:.2f}" for seconds in shares), text.shown(figures, "memory", 2**20),
            text.shown(figures, "threads"), text.shown(figures, "files"), calls]


def metrics(url: str) -> dict[str, float]:
    """The numbers of a server's /metrics without its prefix."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("jaxrl_moe_"): float(value) for name, value in told.items()}


def left(url: str, held: Sequence[str], seconds: float = 20.0) -> list[str]:
    """Which of its metrics are not 0 for a server that nobody has asked for so many seconds, in words."""
    for _ in range(round(seconds / PAUSE)):
        told = metrics(url)
        if not any(told[name] for name in held):
            return []
        time.sleep(PAUSE)
    return [f"{name} is {told[name]:g} when all have left" for name in held if told[name]]


def write(path: pathlib.Path, intro: str, minutes: float, circumstances: str, header: Sequence[str],
          rows: Sequence[Sequence[str]], problems: Sequence[str]) -> str:
    """Writes what was seen before what is there; returns it."""
    result = f"**{'; '.join(problems)}**" if problems else "All well."
    seen = f"{circumstances}\n\n{table.rows(header, rows)}\n{result}"
    return table.put_first(path, intro, f"## {text.today()}: {minutes:g} minutes\n\n{seen}\n")
