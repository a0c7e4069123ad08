"""The run as a person sees it: a live display in a terminal, plain lines elsewhere."""
import sys
import time
from collections.abc import Mapping
from typing import Any

_SHOWN = {  # metric: (label, format)
    "reward/mean": ("reward", "{:.3f}"),
    "env/correct": ("correct", "{:.3f}"),
    "sft/loss": ("loss", "{:.4f}"),
    "eval/pass_at_1": ("held-out pass@1", "{:.3f}"),
    "eval/greedy": ("greedy", "{:.3f}"),
    "policy/loss": ("loss", "{:+.4f}"),
    "policy/kl_loss": ("kl", "{:.4f}"),
    "policy/entropy": ("entropy", "{:.3f}"),
    "critic/explained_variance": ("explained", "{:.2f}"),
    "mismatch/kl": ("mismatch", "{:.1e}"),
    "policy/grad_norm": ("grad", "{:.3f}"),
    "completion/length_mean": ("length", "{:.0f}"),
    "rollout/tokens_per_s": ("tok/s", "{:.0f}"),
    "time/step_s": ("s/step", "{:.1f}"),
    "demonstrations/rejected": ("rejected", "{:.0f}")
}


def summary(metrics: Mapping[str, float]) -> str:
    """The handful of numbers worth watching, on one line; those of single environments at its end."""
    shown = [f"{label} {form.format(metrics[name])}" for name, (label, form) in _SHOWN.items()
             if name in metrics]
    shown += [f"{env} {value:.3f}" for env, value in of_envs(metrics, "env", "success", "reward").items()]
    held_out = of_envs(metrics, "eval", "pass_at_1", "reward_mean")
    return "  ".join([*shown, *(f"held-out {env} {value:.3f}" for env, value in held_out.items())])


def of_envs(metrics: Mapping[str, float], kind: str, *names: str) -> dict[str, float]:
    """{environment: its number} of a run that has several: the first of these names under KIND/ENV/."""
    parts = [name.split("/") for name in metrics]
    envs = dict.fromkeys(each[1] for each in parts if len(each) == 3 and each[0] == kind and each[2] in names)
    return {env: next(metrics[f"{kind}/{env}/{name}"] for name in names if f"{kind}/{env}/{name}" in metrics)
            for env in envs}


class Console:
    """Shows a phase of `total` steps; a writer of metrics like the others.

    Args:
      title: of the phase, such as "RL".
      total: its last step.
      done: the step that it starts after, not 0 in a resumed run.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._title = title
        self._total = total
        self._progress = None
        if sys.stdout.isatty():
            self._progress = _live_display()
            self._progress.start()
            self._task = self._progress.add_task(title, total=total, completed=done, numbers="")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._progress is None:
            print(f"{self._title} {step}/{self._total}  {summary(metrics)}", flush=True)
            return
        if "eval/pass_at_1" in metrics:
            self._progress.console.print(f"{self._title} step {step}: {summary(metrics)}")
        self._progress.update(self._task, completed=step, numbers=summary(metrics))

    def say(self, text: str) -> None:
        """One line beside the numbers."""
        if self._progress is None:
            print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)
        else:
            self._progress.console.print(text)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _live_display() -> Any:
    from rich import progress
    return progress.Progress(progress.TextColumn("[bold]{task.description}"),
                             progress.BarColumn(bar_width=24), progress.MofNCompleteColumn(),
                             progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
                             progress.TextColumn("{task.fields[numbers]}"))
