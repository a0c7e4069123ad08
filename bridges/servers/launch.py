"""Servers of our own: a subprocess with its own log, in a process group of its own, awaited until healthy and
stopped cleanly."""
import contextlib
import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from bridges.servers.http import EngineError
from jaxrl_moe.hosts.addresses import free_port

WORKER = pathlib.Path(__file__).parent / "worker"
STOP_SECONDS = 15.0
LOG_TAIL = 1500


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """What a launched server must do.

    Attributes:
      kind: "sglang" or "vllm".
      python: the interpreter of the environment that has the engine.
      model: the checkpoint's folder or hub name.
      dtype, context: of the policy, and most tokens of a sequence.
      lora_rank, lora_targets: of the adapters that it will get; rank 0: none.
      adapters: how many of them at a time.
      routes: whether it shall tell the experts' routes.
      flags: further ones, as on a command line.
    """
    kind: str
    python: str
    model: str
    dtype: str
    context: int
    lora_rank: int = 0
    lora_targets: Sequence[str] = ()
    adapters: int = 2
    routes: bool = False
    flags: str = ""

    def command(self, port: int) -> list[str]:
        return [
            self.python, "-m", *_COMMANDS[self.kind](self), "--host", "127.0.0.1", "--port",
            str(port), *shlex.split(self.flags)
        ]

    def environment(self, gpus: str) -> dict[str, str]:
        """The server's environment variables: this process's, but for the devices, and what the sync
        needs."""
        env = dict(os.environ)
        if gpus:
            env["CUDA_VISIBLE_DEVICES"] = gpus
        if self.kind == "sglang":  # which does not count what YaRN stretches the context to
            env["SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"] = "1"
        if self.kind == "vllm":
            env |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
                    "PYTHONPATH": os.pathsep.join([str(WORKER), *filter(None, [env.get("PYTHONPATH")])])}
            if self.lora_rank and set(self.lora_targets) <= {"q_proj", "k_proj", "v_proj", "o_proj"}:
                env["JAXRL_LORA_ON_ATTENTION_ONLY"] = "1"
        return env


def _vllm(plan: LaunchPlan):
    yield from ("vllm.entrypoints.openai.api_server", "--model", plan.model, "--served-model-name", "policy",
                "--dtype", plan.dtype, "--max-model-len", str(plan.context), "--enable-scale-out",
                "--logprobs-mode", "processed_logprobs", "--worker-extension-cls",
                "jaxrl_vllm_worker.Extension", "--weight-transfer-config", '{"backend": '
                '"jaxrl"}')
    if plan.lora_rank:
        yield from ("--enable-lora", "--max-lora-rank", str(_rank(plan.lora_rank)), "--max-loras",
                    str(plan.adapters), "--lora-target-modules", *plan.lora_targets)


def _sglang(plan: LaunchPlan):
    yield from ("sglang.launch_server", "--model-path",
                plan.model, "--served-model-name", "policy", "--dtype", plan.dtype, "--context-length",
                str(plan.context), *(["--enable-return-routed-experts"] if plan.routes else []))
    if plan.lora_rank:
        yield from ("--enable-lora", "--max-lora-rank", str(plan.lora_rank), "--max-loras-per-batch",
                    str(plan.adapters), "--lora-target-modules", *plan.lora_targets)


def _rank(rank: int):
    """The least of the ranks that vLLM knows which holds this one."""
    return next(known for known in (8, 16, 32, 64, 128, 256, 320, 512, rank) if known >= rank)


_COMMANDS: dict[str, Callable] = {"vllm": _vllm, "sglang": _sglang}


class Process:
    """One launched server.

    Args:
      plan: what it must do.
      log: the file that its output is appended to.
      gpus: CUDA_VISIBLE_DEVICES for it; empty: as in this process.
    """

    def __init__(self, plan: LaunchPlan, log: pathlib.Path, gpus: str = ""):
        self._plan = plan
        self._log = log
        self._gpus = gpus
        self._process = None
        self._note = log.with_suffix(".pid")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Starts it, also anew after it died; returns at once. What it, or a killed run's server, left
        running is ended first."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if self._process is None:
            self._end_leftover()
        else:  # a dead leader's workers may live on, and hold the GPU
            _kill_group(self._process.pid)
        command = self._plan.command(self.port)
        with self._log.open("ab") as log:
            log.write((shlex.join(command) + "\n").encode())
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                 start_new_session=True,
                                                 env=self._plan.environment(self._gpus))
            except OSError as error:
                raise EngineError(f"The {self._plan.kind} server could not be started with servers.python = "
                                  f"{self._plan.python!r}: {error.strerror}. Name the Python of the "
                                  f"environment that has {self._plan.kind}.") from error
        self._note.write_text(f"{self._process.pid} {self.port}\n")

    def wait(self, is_up: Callable[[], bool], seconds: float) -> None:
        """Waits until it is healthy.

        Raises:
          EngineError: it ended, or was not healthy in time; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not is_up():
            if not self.running or time.monotonic() > deadline:
                late = f"was not healthy within servers.start_timeout = {seconds:g} seconds"
                what = late if self.running else "ended while it started"
                self.stop()
                raise EngineError(f"The {self._plan.kind} server on port {self.port} {what}. The end of its "
                                  f"log {self._log}:\n{self._tail()}")
            time.sleep(0.5)

    def stop(self) -> None:
        """Ends it and all that it started: politely, then by force."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                if not _group_lives(self._process.pid, STOP_SECONDS):
                    break
        self._note.unlink(missing_ok=True)

    def _end_leftover(self):
        """Ends the server of an earlier run that was killed: it would hold the GPU."""
        try:
            group, port = self._note.read_text().split()
            command = pathlib.Path(f"/proc/{group}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        # this very server, no other that got its number
        if port.encode() in command and os.getpgid(int(group)) == int(group):
            _kill_group(int(group))

    def _tail(self):
        return self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace")


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    _group_lives(group, STOP_SECONDS)


def _group_lives(group: int, seconds: float) -> bool:
    """Whether any process of the group is still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True
