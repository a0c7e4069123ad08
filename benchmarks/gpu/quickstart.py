"""Stage f: configs/quickstart.py as it is on the card, its learning curve; then a killed run of it, and what
deterministic flags cost."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.gpu.box import ROOT
from benchmarks.gpu.record import FAILED, MEASURED, PASSED, Recorder, Settings, read
from tests.helpers.runs import DETERMINISTIC

TIMED = ("time/", "perf/", "rollout/tokens_per_s")  # numbers of a log that no two runs share
CURVE = ("eval/pass_at_1", "eval/greedy", "reward/mean", "mismatch/kl")
SMALL = {
    "scratch.hidden_size": 32,
    "scratch.num_layers": 1,
    "sft.steps": 4,
    "sft.sequences_per_step": 16,
    "train.steps": 6,
    "rollout.prompts_per_step": 4,
    "rollout.group_size": 4,
    "rollout.slots": 16,
    "eval.every": 3,
    "eval.prompts": 16,
    "eval.greedy": "false"
}
# of the short runs
STEPS = {False: 16, True: 6}
KILLED_AFTER = {False: 9, True: 3}
WARM = 3  # their first steps, which compile


def run(recorder: Recorder, settings: Settings) -> None:
    folder = pathlib.Path(settings.folder) / "quickstart"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changes = SMALL if settings.rehearse else {}
    if not learn(recorder, folder / "learned", changes):
        return
    short = changes | after_warm_up(folder / "learned") | {
        "train.steps": STEPS[settings.rehearse],
        "eval.every": 0,
        "checkpoint.every": 2
    }
    # a CPU's programs are deterministic, and know no flag of a GPU
    flags = "" if settings.rehearse else DETERMINISTIC
    name = "a short run under deterministic flags"
    if recorder.attempt(name, lambda: finish(start(folder / "whole", short, flags), lambda: None)) is None:
        return
    compare_times(recorder, folder / "learned", folder / "whole", flags)
    recorder.attempt("kill and resume",
                     lambda: kill_and_resume(recorder, folder, short, flags, KILLED_AFTER[settings.rehearse]))


def learn(recorder: Recorder, folder: pathlib.Path, changes: dict) -> bool:
    """The whole recipe; each evaluation is a row as soon as it is in the log. Says whether it came to its
    end."""
    begun = time.monotonic()
    told = set()

    def look() -> None:
        for path in (folder / "sft" / "metrics.jsonl", folder / "metrics.jsonl"):
            for row in read(path):
                name = f"{'SFT' if path.parent.name == 'sft' else 'GRPO'} step {row['step']}"
                if "eval/pass_at_1" in row and name not in told:
                    told.add(name)
                    recorder.add(f"learning curve, {name}", MEASURED, s=time.monotonic() - begun,
                                 **{key: row[key] for key in CURVE if key in row})

    done = recorder.attempt("quickstart", lambda: finish(start(folder, changes, ""), look))
    if done is None:
        return False
    rows = read(folder / "metrics.jsonl")
    rates = [row["rollout/tokens_per_s"] for row in rows if "rollout/tokens_per_s" in row]
    recorder.add("quickstart", PASSED, s=time.monotonic() - begun,
                 **{"steps": rows[-1]["step"],
                    "s a step": seconds(rows, len(rows)),
                    "rollout tokens/s": float(np.median(rates))})
    return True


def after_warm_up(learned: pathlib.Path) -> dict:
    """Settings of a run that starts where the warm-up of another ended."""
    data = learned / "data"
    return {
        "model.path": learned / "sft" / "model",
        "data.path": data / "train.jsonl",
        "data.eval_path": data / "eval.jsonl",
        "sft.path": "",
        "sft.steps": 0,
        "eval.at_start": "false"
    }


def start(folder: pathlib.Path, changes: dict, flags: str) -> subprocess.Popen:
    command = [
        sys.executable, "scripts/train.py", "--config=configs/quickstart.py", f"--config.run_dir={folder}",
        *(f"--config.{name}={value}" for name, value in changes.items())
    ]
    variables = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, look: Callable[[], None]) -> bool:
    """Waits for a run, looking at its log every half second; raises RuntimeError where it failed."""
    try:
        while process.poll() is None:
            look()
            time.sleep(0.5)
    finally:
        process.kill()
    look()
    if process.returncode:
        raise RuntimeError(f"`{' '.join(map(str, process.args[1:4]))} ...` ended with {process.returncode}; "
                           f"its log: {_tail(process)}")
    return True


def _tail(process: subprocess.Popen) -> str:
    folder = pathlib.Path(
        next(part.partition("=")[2] for part in process.args if part.startswith("--config.run_dir=")))
    return (folder.parent / f"{folder.name}.log").read_text(errors="replace")[-300:]


def compare_times(recorder: Recorder, plain: pathlib.Path, deterministic: pathlib.Path, flags: str) -> None:
    """The same steps of the same recipe from the same weights, with the flags and without."""
    theirs = read(deterministic / "metrics.jsonl")
    with_flags = seconds(theirs, len(theirs))
    without = seconds(read(plain / "metrics.jsonl"), len(theirs))
    recorder.add("cost of deterministic flags", MEASURED, flags or "none are set on a CPU", **{
        "s a step with": with_flags, "s a step without": without, "time ratio": with_flags / without})


def seconds(rows: Sequence[dict], last: int) -> float:
    """The median step's, of steps past WARM up to `last`."""
    return float(
        np.median([row["time/step_s"] for row in rows
                   if WARM < row["step"] <= last and "time/step_s" in row]))


def kill_and_resume(recorder: Recorder, folder: pathlib.Path, changes: dict, flags: str, after: int) -> None:
    """Kills the same run once its log has some steps, gives the same command again, and compares every bit of
    what they left."""
    log = folder / "killed" / "metrics.jsonl"
    killed = start(folder / "killed", changes, flags)
    while killed.poll() is None and len(read(log)) < after:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    steps = len(read(log))
    finish(start(folder / "killed", changes, flags), lambda: None)
    differing = differences(folder / "whole", folder / "killed")
    recorder.add("kill and resume to the same bits",
                 FAILED if differing or killed.returncode != -signal.SIGKILL else PASSED,
                 f"they differ in {', '.join(differing)}" if differing else "", **{
                     "killed after step": steps,
                     "steps": len(read(folder / "whole" / "metrics.jsonl"))
                 })


def differences(whole: pathlib.Path, resumed: pathlib.Path) -> list[str]:
    """What two runs that should be alike have not alike: numbers of their logs, completions, weights."""
    def untimed(folder):
        return [{
            name: value for name, value in row.items() if not name.startswith(TIMED)
        } for row in read(folder / "metrics.jsonl")]

    files = ("trajectories.jsonl", "model/model.safetensors", "adapter/adapter_model.safetensors")
    found = [name for name in files if (whole / name).read_bytes() != (resumed / name).read_bytes()]
    return found + ["metrics.jsonl"] * (untimed(whole) != untimed(resumed))
