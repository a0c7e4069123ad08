"""Judges kernels over HTTP: whether a candidate in Triton compiles, and does what its reference does.

    python scripts/serve.py kernels --port=18188 --workers=2
    curl http://127.0.0.1:18188/backend_info

POST /eval hands a candidate in, and answers with the verdict and what it rests on. Candidates run in
sandboxes (Debian's packages bubblewrap and util-linux) without network, files and secrets. Without a GPU they
run under Triton's interpreter, and no speed is measured. Needs the extras `serve` and `kernels`: pip install
-e ".[serve,kernels]". SIGTERM ends it, and its workers with it. See docs/kernels.md.
"""
from jaxrl_moe.hosts.keys import key_of_file
from jaxrl_moe.options import define_number, define_path, define_text
from jaxrl_moe.serving.commands import common

COMMON = common.define(port=18188)
WORKERS = define_number("workers", 0, "candidates that are judged at once; 0: one for each core", 0, 1024)
GPUS = define_text("gpus", "", "numbers of the GPUs that candidates run on, as 0,1; empty: none, they run "
                               "under Triton's interpreter")
PYTHON = define_path("python", "", "interpreter that has torch and Triton; empty: the one that serves")
SECONDS = define_number("seconds", 60.0, "that a candidate may take; afterwards its verdict is that it took "
                                         "too long, with status 504", 0.1, 86_400)
CAPABILITY = define_number("capability", 90, "compute capability of the GPU that kernels are compiled for "
                                             "where there is none, as 90 for H100; 0: they are not compiled",
                           0, 999)
QUEUE = define_number("queue", 256, "candidates that may wait beyond those that are judged; more are refused "
                                    "with 429", 0, 100_000)
CACHE = define_path("cache", "", "SQLite file that keeps verdicts over restarts; empty: they are kept in "
                                 "memory")
BASELINES = define_path("baselines", "", "JSON file that keeps how long references take on GPUs; empty: they "
                                         "are timed anew after each start")
REQUIRED = ()


def main() -> None:
    from jaxrl_moe.serving.kernels import launch  # after the flags: without the extra it says so
    launch.serve_kernels(launch.KernelServerOptions(
        host=COMMON.host.value, port=COMMON.port.value, api_key=key_of_file(COMMON.key_file.value),
        workers=WORKERS.value, gpus=GPUS.value, python=PYTHON.value, seconds=SECONDS.value,
        capability=CAPABILITY.value, queue=QUEUE.value, cache=CACHE.value,
        baselines=BASELINES.value, grace=COMMON.grace.value))
