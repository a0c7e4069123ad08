"""Many inputs of a target in a process of its own, which a crash ends: then another goes on behind it."""
import dataclasses
import json
import os
import subprocess
import sys
import tempfile

from tests.fuzz import runner
from tests.fuzz.runner import ROOT, Failure


def shares(names: str | None, count: int) -> dict[str, int]:
    """{target: how many of the inputs are its}."""
    from tests.fuzz.targets.table import TARGETS
    chosen = [TARGETS[name] for name in (names.split(",") if names else TARGETS)]
    total = sum(target.share for target in chosen)
    return {target.name: max(1, round(count * target.share / total)) for target in chosen}


def run(name: str, seed: int, first: int, count: int) -> list[Failure]:
    """Tries inputs first .. first + count."""
    failures = []
    end = first + count
    while first < end:
        found, reached = _run(name, seed, first, end - first)
        failures += found
        first = reached + 1
    return failures


def _run(name: str, seed: int, first: int, count: int) -> tuple[list[Failure], int]:
    """(failures, the last input that was tried) of one process."""
    command = [sys.executable, "-m", "tests.fuzz", "--alone", f"--target={name}", f"--seed={seed}",
               f"--first={first}", f"--count={count}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    failures = []
    reached = first
    began = False
    with tempfile.TemporaryFile("w+", errors="replace") as words, subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=words, text=True) as process:
        for line in process.stdout:
            answer = json.loads(line)
            began = True
            reached = answer.get("index", reached)
            if "kind" in answer:
                failures.append(Failure(**answer))
        process.wait()
        words.seek(0)
        last = words.read()[-4000:]  # threads of libraries talk there too
    if process.returncode and not began:
        what = "it did not get as far as its first input"
        failures.append(Failure(name, seed, first, "", "crash", what, "",
                                last))
        return failures, first + count
    if process.returncode:
        failures.append(Failure(name, seed, reached, "", "crash",
                                f"the process ended with {process.returncode}",
                                "", last))
        return failures, reached
    return failures, first + count - 1


def answer(name: str, seed: int, first: int, count: int) -> None:
    """The other side: a line {"index"} before each input, and one for each failure."""
    from tests.fuzz.targets.table import TARGETS
    out = os.fdopen(os.dup(1), "w")
    target = TARGETS[name]()
    with runner.opened(target) as arena:
        for index in range(first, first + count):
            print(json.dumps({"index": index}), file=out, flush=True)
            failure = runner.run(target, arena, seed, index)
            if failure:
                print(json.dumps(dataclasses.asdict(failure)), file=out, flush=True)
    out.flush()
    os._exit(0)  # threads of libraries may linger
