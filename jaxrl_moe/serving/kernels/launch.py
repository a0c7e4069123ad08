"""An evaluation server put together, as scripts/serve.py starts it."""
import dataclasses
import json
import os
import subprocess
import sys

from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.serving.kernels.app import make_app
from jaxrl_moe.serving.kernels.service import KernelService
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import UserError

PACKAGES = ("torch", "triton")
_ASKED = """
import importlib.metadata, json, sys
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


@dataclasses.dataclass(frozen=True)
class KernelServerOptions:
    """workers: candidates that are judged at once; 0: one for each core, or each of the GPUs; gpus: their
    numbers with commas between, "" for none; python: an interpreter that has torch and Triton, "" for this
    one; seconds: that a candidate may take; capability: of the GPU that is compiled for, 0: nothing is;
    queue: candidates that may wait; cache: SQLite file for verdicts, "" for memory."""
    host: str = "127.0.0.1"
    port: int = 18188
    api_key: str = dataclasses.field(default="", repr=False)
    workers: int = 0
    gpus: str = ""
    python: str = ""
    seconds: float = 60.0
    capability: int = 90
    queue: int = 256
    cache: str = ""
    grace: float = 30.0


def serve_kernels(options: KernelServerOptions) -> None:
    """Judges kernels until SIGTERM or SIGINT.

    Raises:
      UserError: nothing can be shut in here, something is not installed, or the address cannot be taken.
    """
    server, service = make_server(options)
    packages = ", ".join(f"{name} {version}" for name, version in service.versions.items())
    print(f"Judging kernels at {server.url} by {len(service.pool.workers)} workers; verdicts rest on: "
          f"{service.basis} ({packages})", flush=True)
    server.run()
    print("Stopped; no worker is left.", flush=True)


def make_server(options: KernelServerOptions) -> tuple[HttpServer, KernelService]:
    """The server, which listens already, and what it serves, whose workers have started."""
    python = options.python or sys.executable
    versions = versions_of(python)
    _check_gpus(options.gpus)
    pool = Pool(options.workers or os.cpu_count() or 1, python, seconds=options.seconds,
                capability=options.capability)
    try:
        pool.start()
    except BaseException:
        pool.close()
        raise
    service = KernelService(pool, versions, queue=options.queue, cache=options.cache)
    return HttpServer(service, make_app, host=options.host, port=options.port, api_key=options.api_key,
                      grace=options.grace), service


def versions_of(python: str) -> dict[str, str]:
    """{package: version} of what candidates need, as an interpreter has it; nothing of it is imported.

    Raises:
      UserError: it is none, or lacks one.
    """
    try:
        asked = subprocess.run([python, "-I", "-c", _ASKED, *PACKAGES], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--python={quoted(python)} cannot be started: {error.strerror}.") from error
    if asked.returncode:
        raise UserError(f"--python={quoted(python)} is no Python that runs: {quoted(asked.stderr[-200:])}.")
    versions = json.loads(asked.stdout)
    lacking = [name for name, version in versions.items() if not version]
    if lacking:
        raise UserError(f"Candidates need {' and '.join(lacking)}, which {quoted(python)} does not have. "
                        'Install the extra `kernels` there: pip install -e ".[kernels]", or name another by '
                        "--python.")
    return versions


def _check_gpus(gpus: str) -> None:
    """Raises UserError for GPUs that are not here, or cannot be used yet."""
    numbers = [each.strip() for each in gpus.split(",")] if gpus else []
    wrong = [each for each in numbers if not (each.isascii() and each.isdigit())]
    if wrong or len(set(numbers)) < len(numbers):
        raise UserError(f"--gpus={quoted(gpus)}: give their numbers with commas between, each once, as 0,1.")
    absent = [each for each in numbers if not os.path.exists(f"/dev/nvidia{each}")]
    if absent:
        raise UserError(f"--gpus={quoted(gpus)}: this machine has no GPU {named(absent)}. Leave the option "
                        "out, and candidates are judged under Triton's interpreter.")
    if numbers:
        raise UserError("This version judges under Triton's interpreter alone, and times nothing: leave "
                        "--gpus out.")
