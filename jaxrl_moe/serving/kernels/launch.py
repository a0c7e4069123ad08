"""An evaluation server put together, as scripts/serve.py starts it."""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence

from jaxrl_moe.envs.kernels.verdicts.baselines import Baselines
from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.envs.kernels.verdicts.worker import LocalWorker, Worker
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.serving.kernels.app import make_app
from jaxrl_moe.serving.kernels.gpus import Gpu, gpus_of
from jaxrl_moe.serving.kernels.service import KernelService
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.spelling import quoted
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
    one; seconds: that a candidate may take; capability: of the GPU that is compiled for where there is none,
    0: nothing is; queue: candidates that may wait; cache: SQLite file for verdicts, baselines: JSON file for
    how long references take, "" for memory."""
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
    baselines: str = ""
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
    gpus = gpus_of(options.gpus)
    pool = Pool(_count(options, gpus), make=_maker(options, gpus, python, versions["torch"]))
    try:
        pool.start()
    except BaseException:
        pool.close()
        raise
    versions |= {"gpus": ", ".join(gpu.name for gpu in gpus)} if gpus else {}
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


def _count(options: KernelServerOptions, gpus: Sequence[Gpu]) -> int:
    """How many workers there are."""
    if gpus and options.workers not in (0, len(gpus)):
        raise UserError(f"--workers={options.workers} with --gpus={quoted(options.gpus)}: each GPU has one "
                        "worker, lest one candidate's work count in another's time. Leave --workers out.")
    return len(gpus) or options.workers or os.cpu_count() or 1


def _maker(options: KernelServerOptions, gpus: Sequence[Gpu], python: str,
           torch: str) -> Callable[[int], Worker]:
    """What makes each worker, by its number."""
    way = working_way()
    if not gpus:
        return lambda _: LocalWorker(python, way=way, seconds=options.seconds, capability=options.capability)
    path = pathlib.Path(options.baselines) if options.baselines else None
    tables = {name: Baselines(path, name, torch) for name in {gpu.name for gpu in gpus}}

    def make(number: int) -> Worker:
        gpu = gpus[number]
        return LocalWorker(python, way=way, seconds=options.seconds, capability=gpu.capability,
                           gpu=f"cuda:{gpu.number}", baselines=tables[gpu.name])
    return make
