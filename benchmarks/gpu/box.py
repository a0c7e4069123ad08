"""Runs a stage in a process of its own, for so long and no longer; what becomes of it concerns no other
stage."""
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.gpu.record import Settings
from benchmarks.gpu.stages import Stage

GONE_S = 5.0  # to wait for killed processes at most; where nobody collects orphans they are listed for ever
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Outcome(NamedTuple):
    """cut: why the stage did not come to its end; empty if it did."""
    stage: Stage
    seconds: float
    cut: str


def run(stage: Stage, settings: Settings, log: pathlib.Path) -> Outcome:
    """Runs one stage for settings.seconds at most. Its output is appended to `log`; no process of it is left
    behind."""
    start = time.monotonic()
    told = json.dumps(dataclasses.asdict(settings))
    with log.open("a") as output:
        output.write(f"\n===== {stage.letter}: {stage.title}\n")
        output.flush()
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu.worker", stage.module, told],
                                   cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                                   env=environment(settings))
        try:
            cut = _why(process.wait(settings.seconds), log)
        except subprocess.TimeoutExpired:
            cut = f"cut after its {settings.seconds:.0f} s"
        finally:
            _end(process)
    return Outcome(stage, time.monotonic() - start, cut)


def environment(settings: Settings) -> dict[str, str]:
    """Of a stage's process and those that it starts."""
    variables = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONUNBUFFERED": "1",
        "JAXRL_MOE_GPU": "rehearse" if settings.rehearse else "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # several of its processes compile the same programs
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or f"{settings.folder}/compiled"
    }
    if settings.rehearse:
        # most of a rehearsal is compilation
        flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
        variables |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
    return variables


def _why(code: int, log: pathlib.Path) -> str:
    if code == 0:
        return ""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"ended with an error: {lines[-1].strip()[:300]}"


def _end(process: subprocess.Popen) -> None:
    """Kills what is left of the process and of those that it started, which are its group, and waits until
    the card's memory is free."""
    last = time.monotonic() + GONE_S
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while time.monotonic() < last:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        process.wait()
