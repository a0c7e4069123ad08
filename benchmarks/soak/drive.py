"""Runs a leg to its end: process after process, each watched, until none is killed any more."""
import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.soak.clients import Clients
from benchmarks.soak.legs import Leg, Moments
from benchmarks.soak.watch import Sample, Watch, grown, growth
from benchmarks.table import ROOT
from jaxrl_moe.config import ConfigError
from jaxrl_moe.hosts.addresses import free_port

STUCK_S = 300.0  # without another step: a process hangs
LOOK_S = 0.2  # between two looks at a process
MARK = ".soak"  # in a folder that a soak made
TAIL = 1500  # characters of a log that are shown
RECIPE = """from benchmarks.soak import legs


def get_config():
    return legs.{function}(**{arguments!r})
"""


@dataclasses.dataclass
class Seen:
    """What was seen of a leg.

    Attributes:
      leg: what was run.
      attempts: samples of each of its processes.
      kills: how many of them were ended by SIGKILL.
      calls: {what became of them: how many} of its clients.
      problems: what is wrong, in words.
    """
    leg: Leg
    attempts: list[Sequence[Sample]] = dataclasses.field(default_factory=list)
    kills: int = 0
    seconds: float = 0.0
    calls: Mapping[str, int] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


def fresh(folder: pathlib.Path) -> pathlib.Path:
    """The folder, made, and emptied of an earlier soak.

    Raises:
      ConfigError: it holds something else, which is not deleted.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(f"--folder={folder} holds files of something else than a soak: give a new folder.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def write_recipe(path: pathlib.Path, function: str, **arguments: object) -> None:
    """A recipe of the settings that a function of legs.py makes."""
    path.write_text(RECIPE.format(function=function, arguments=arguments))


def launch(script: str, recipe: pathlib.Path) -> subprocess.Popen[bytes]:
    """Starts a script on a recipe, with its log and a folder for temporary files beside that."""
    temporary = recipe.with_suffix(".tmp")
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    command = [sys.executable, f"scripts/{script}.py", f"--config={recipe}"]
    with recipe.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT)


def run(leg: Leg, folder: pathlib.Path, steps: int, moments: Moments) -> Seen:
    """Runs a leg, however often it is killed.

    Args:
      leg: what to run.
      folder: has the run in `start` that it begins with, and gets the leg's own; see run_dir.
      steps: to train.
      moments: of the kills.
    """
    seen = Seen(leg)
    port = free_port()
    own = run_dir(leg, folder)
    recipe = own.with_suffix(".py")
    changes = dict(leg.changes) | ({"endpoint.port": port} if leg.served else {})
    write_recipe(recipe, "settings", start=str(folder / "start"), run_dir=str(own), steps=steps,
                 changes=changes)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = stack.enter_context(Clients(f"http://127.0.0.1:{port}")) if leg.served else None
        code = -signal.SIGKILL
        while code == -signal.SIGKILL and not seen.problems:
            code = attempt(launch("train", recipe), own, steps, moments, seen)
    seen.seconds = time.monotonic() - began
    if clients:
        seen.calls = dict(clients.seen)
        seen.problems += sorted(set(clients.problems))
    if code and not (code == -signal.SIGKILL and seen.problems):  # else the soak itself has ended it
        seen.problems.append(f"a process ended with {code}: {tail(recipe)}")
    return seen


def run_dir(leg: Leg, folder: pathlib.Path) -> pathlib.Path:
    return folder / leg.name.replace(",", "").replace(" ", "_")


def attempt(process: subprocess.Popen[bytes], own: pathlib.Path, steps: int, moments: Moments,
            seen: Seen) -> int:
    """Watches one process until it ends or is killed; its exit code."""
    watch = Watch(process.pid, own)
    moments.started()
    try:
        while process.poll() is None:
            step = watch.look()
            if moments.is_due(step, watch.seconds):
                process.kill()
                seen.kills += process.wait() == -signal.SIGKILL
            elif watch.still > STUCK_S:
                seen.problems.append(f"no step within {STUCK_S:g} seconds, after step {step}")
                process.kill()
            time.sleep(LOOK_S)
    finally:
        process.kill()  # where this process is interrupted itself
        process.wait()
    seen.attempts.append(watch.samples)
    seen.problems += grown(growth(watch.samples, steps, seen.leg.served))
    return process.returncode


def finish(script: str, recipe: pathlib.Path) -> float:
    """Runs a script to its end; seconds.

    Raises:
      RuntimeError: it failed; with the end of its log.
    """
    began = time.monotonic()
    code = launch(script, recipe).wait()
    if code:
        raise RuntimeError(f"scripts/{script}.py ended with {code}: {tail(recipe)}")
    return time.monotonic() - began


def tail(recipe: pathlib.Path) -> str:
    """The end of a recipe's log."""
    log = recipe.with_suffix(".log")
    return f"{log} ends with {log.read_text(errors='replace')[-TAIL:].strip()}"
