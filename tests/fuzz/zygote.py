"""A process that has imported what scripts import, and forks for each command: seconds of imports are paid
once. It reads {"argv", "folder", "texts", "seconds"} a line, and answers {"status"}; a command's texts lie
in the folder's stdout and stderr.

A status of None: it ran out of time. Commands are files of scripts/, or "-m" and a module.
"""
import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVES = "Serving "  # printed by a server that has come up: it is asked to end


class Zygote:
    """The process, as its client sees it."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen([sys.executable, "-m", "tests.fuzz.zygote"], cwd=ROOT,
                                         env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, argv: Sequence[str], folder: pathlib.Path, texts: pathlib.Path, seconds: float
            ) -> tuple[int | None, str, str]:
        """(exit status, stdout, stderr) of a command that is run in a folder."""
        texts.mkdir()
        order = {"argv": list(argv), "folder": str(folder), "texts": str(texts), "seconds": seconds}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            status = json.loads(self._process.stdout.readline())["status"]
            out, err = ((texts / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        finally:
            shutil.rmtree(texts)
        return status, out, err

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


def main() -> None:
    import jax  # noqa: F401
    import transformers  # noqa: F401

    import bridges  # noqa: F401
    import jaxrl_moe.checks.entry  # noqa: F401
    import jaxrl_moe.cli  # noqa: F401
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps({"status": _run(order)}), flush=True)


def _run(order: dict[str, Any]) -> int | None:
    texts = pathlib.Path(order["texts"])
    process = os.fork()
    if process == 0:
        _become(order["argv"], pathlib.Path(order["folder"]), texts)
    end = time.monotonic() + order["seconds"]
    asked = False
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
        if not asked and SERVES in _so_far(texts):
            os.kill(process, signal.SIGTERM)
            asked = True
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _so_far(texts: pathlib.Path) -> str:
    path = texts / "stdout"
    return path.read_text(errors="replace") if path.exists() else ""


def _become(argv: list[str], folder: pathlib.Path, texts: pathlib.Path) -> None:
    """The child: runs the command and ends."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(texts / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(os.devnull)
    os.chdir(folder)
    status = 0
    try:
        if argv[0] == "-m":
            sys.argv = [argv[1], *argv[2:]]
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(ROOT / argv[0]), *argv[1:]]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
