"""A whole run of seconds: SFT, RL, export and report of a tiny model, started as users start it; and what
must be the same at its end, however often it was ended before."""
import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from benchmarks import recipes
from benchmarks.table import ROOT

STEPS = 3
ROWS = 256  # of the data, for each of SFT and RL
LONGEST = 600.0  # seconds that a process may take on a busy machine
LOG = "out.log"  # what the last process said
PARAGRAPH = 8  # lines that a process may say at its end
RECIPE = """from benchmarks.kills import runs


def get_config():
    return runs.settings({run_dir!r})
"""
# of the bytes in a run's folder these are by time, or have times in them, or are compared as what they hold
_BY_CONTENT = ("checkpoints/", "tensorboard/", "metrics.jsonl", ".png")


def settings(run_dir: str) -> ConfigDict:
    """The recipe. Its data is cut short, which no setting does."""
    from jaxrl_moe.data import word_problems
    word_problems.TRAIN_ROWS = word_problems.SFT_ROWS = ROWS
    word_problems.EVAL_ROWS = 16
    config = recipes.load("quickstart")
    config.run_dir = run_dir
    config.scratch.update(vocab_size=300, hidden_size=32, intermediate_size=16, num_layers=1, num_experts=4,
                          context=256)
    config.sft.update(steps=STEPS, sequences_per_step=8, max_tokens=128)
    config.data.max_prompt_tokens = 64
    config.lora.rank = 2
    config.rollout.update(prompts_per_step=4, group_size=4, slots=16, max_tokens=16)
    config.train.update(steps=STEPS, tokens_per_micro_batch=2048)
    config.optimizer.warmup_steps = 1
    config.env.name = "gsm8k"  # whose charge for length makes the rewards of a random model differ
    config.eval.update(every=0, prompts=4)
    config.checkpoint.update(every=1, keep=2)
    return config


@dataclasses.dataclass(frozen=True)
class Ended:
    """code: as subprocess has it; said: what it wrote to stderr."""
    code: int
    said: str

    def problems(self, allowed: Sequence[int]) -> Iterator[str]:
        """Yields what is wrong with the end of a process, in words."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        if self.code not in allowed:
            yield f"a process ended with {self.code}: {' '.join(lines[-4:])[:400]}"
        if "Traceback" in self.said or len(lines) > PARAGRAPH:
            yield f"a process said {len(lines)} lines, such as {' '.join(lines[-2:])[:300]}"


def launch(folder: pathlib.Path, *before: str) -> subprocess.Popen[str]:
    """Starts scripts/train.py on folder/run, in a group of its own; `before`: a command that starts it."""
    recipe = folder / "recipe.py"
    recipe.write_text(RECIPE.format(run_dir=str(folder / "run")))
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
                "JAX_COMPILATION_CACHE_MAX_SIZE": "-1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | compiled | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    command = [sys.executable, *before, "scripts/train.py", f"--config={recipe}"]
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen[str], seconds: float = LONGEST) -> Ended:
    """Waits for it; one that hangs is killed, and ends with -9.

    Raises:
      subprocess.TimeoutExpired: it had not ended after so many seconds, and runs on.
    """
    _, said = process.communicate(timeout=seconds)
    return Ended(process.returncode, said)


def finished(folder: pathlib.Path, ended: Ended) -> bool:
    """Whether the last process came to the end of the run, where it did not stop when told to."""
    return ended.code == 0 and "Stopped by SIGTERM" not in (folder / LOG).read_text()


def differences(run: pathlib.Path, undisturbed: pathlib.Path) -> Iterator[str]:
    """Yields in which ways a run is not the one that nothing disturbed."""
    ours = names(run)
    theirs = names(undisturbed)
    if ours - theirs:
        yield f"left over: {', '.join(sorted(ours - theirs))}"
    if theirs - ours:
        yield f"missing: {', '.join(sorted(theirs - ours))}"
    for name in sorted(ours & theirs):
        if not any(part in name for part in _BY_CONTENT) and (
                (run / name).read_bytes() != (undisturbed / name).read_bytes()):
            yield f"other bytes: {name}"
    yield from _other_phases(run, undisturbed)


def names(run: pathlib.Path) -> set[str]:
    """The files below a run's folder; checkpoints by their step, TensorBoard's by their folder."""
    found = set()
    for path in run.rglob("*"):
        parts = path.relative_to(run).parts
        if "checkpoints" in parts[:-1]:
            found.add("/".join(parts[:parts.index("checkpoints") + 2]))
        elif "tensorboard" in parts[:-1]:
            found.add("/".join(parts[:parts.index("tensorboard")]) + "/tensorboard/")
        elif path.is_file() or not any(path.iterdir()):
            found.add("/".join(parts))
    return found


def _other_phases(run: pathlib.Path, undisturbed: pathlib.Path) -> Iterator[str]:
    """Of SFT and RL: the metrics but for times, and the arrays of the last checkpoint."""
    import numpy as np

    from tests.helpers.runs import arrays, untimed
    for phase in ("sft", "."):
        if not (run / phase / "metrics.jsonl").exists():
            continue  # which was told as missing
        if untimed(run / phase / "metrics.jsonl") != untimed(undisturbed / phase / "metrics.jsonl"):
            yield f"other metrics in {phase}"
        ours = arrays(run / phase)
        theirs = arrays(undisturbed / phase)
        same = ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)
        if not same:
            yield f"another checkpoint in {phase}"
