"""The processes of a run that people judge, each started as users start it, and again after each kill."""
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks import table
from jaxrl_moe.hosts.addresses import free_port

PROMPTS = 2
GROUP = 4
START_S = 120.0  # in which a server is there
RECIPE = """from configs.judges.agora_ex_tiny import get_config as tiny


def get_config():
    config = tiny()
    config.run_dir = {run_dir!r}
    config.env.name = ("task_app(url={app!r}, max_turns=1, judge_url={judge!r}, judge_provider='human', "
                       "rubric_id='agora_text', max_concurrent_rollouts=4, run='judged')")
    config.endpoint.port = 0
    config.data.seeds = "0-15"
    config.data.eval_seeds = "16"
    config.eval.at_start = False
    config.rollout.prompts_per_step = {prompts}
    config.rollout.group_size = {group}
    config.train.steps = {steps}
    config.checkpoint.every = 1
    return config
"""


@dataclasses.dataclass
class Program:
    """A process that may be started several times.

    Attributes:
      said: a pattern of what it prints once it is there; empty: it is not waited for.
      lives: how often it was started.
    """
    name: str
    command: Sequence[str]
    folder: pathlib.Path
    said: str = ""
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it is there."""
        self.lives += 1
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command], cwd=table.ROOT, env=environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + START_S
        while self.said and not re.search(self.said, self._log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start: {self.tail}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it at once, if it is there."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def tail(self) -> str:
        """The last that it has said."""
        return self._log.read_text(errors="replace")[-1500:]

    @property
    def _log(self) -> pathlib.Path:
        return self.folder / f"{self.name}_{self.lives}.log"


def environment() -> Mapping[str, str]:
    """Of all processes."""
    return os.environ | {"PYTHONPATH": str(table.ROOT), "ENVIRONMENT_API_KEY": "sk_env_judged"}


def programs(folder: pathlib.Path, steps: int) -> tuple[dict[str, Program], str]:
    """({name: process that is not started yet}, the page's URL)."""
    ports = {name: free_port() for name in ("app", "judge", "page")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    recipe = folder / "recipe.py"
    recipe.write_text(RECIPE.format(run_dir=str(folder / "run"), app=urls["app"], judge=urls["judge"],
                                    prompts=PROMPTS, group=GROUP, steps=steps))
    serve = "scripts/serve.py"
    commands = {
        "app": [serve, "task-app", "--name=agora_ex_text", f"--port={ports['app']}"],
        "judge": [serve, "judge", queue(folder), "--provider=human", f"--port={ports['judge']}"],
        "page": [serve, "judge-page", queue(folder), f"--port={ports['page']}"],
        "run": ["scripts/train.py", f"--config={recipe}"]}
    made = {name: Program(name, command, folder, "" if name == "run" else r"http://127\.0\.0\.1")
            for name, command in commands.items()}
    return made, urls["page"]


def queue(folder: pathlib.Path) -> str:
    """The option that names the queue."""
    return f"--queue=sqlite:///{folder}/queue.db"


def keep(folder: pathlib.Path, *options: str) -> str:
    """What scripts/judges.py prints about the queue."""
    done = subprocess.run([sys.executable, "scripts/judges.py", queue(folder), *options], cwd=table.ROOT,
                          env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
