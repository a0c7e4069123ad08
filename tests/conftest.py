"""Eight virtual CPU devices for every test, set before JAX starts; a GPU, with the CPU beside it, where
JAXRL_MOE_GPU=1."""
import collections
import gc
import importlib.metadata
import itertools
import os
import pathlib
import signal

import pytest

from jaxrl_moe import endings

# 1: run tests/gpu on a GPU | rehearse: on the CPU, as they are written; see tests/gpu
GPU = os.environ.get("JAXRL_MOE_GPU", "")


def on_cpus():
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Most of a test's time is compilation: level 0 halves it, and to generate a program's code in one piece,
    # not in 32 for as many cores, spares a quarter. The benchmarks and the README's commands run at the
    # default.
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
                               " --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1")
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # the older code generator halves it again
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"


def on_a_gpu():
    os.environ["JAX_PLATFORMS"] = "cuda,cpu"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the processes that tests start share the card


on_a_gpu() if GPU not in ("", "rehearse") else on_cpus()
# Tracing makes many objects that stay: to go through all as often as by default takes a tenth of the time.
gc.set_threshold(50_000, 20, 20)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Scripts that tests import would take over how this process ends, which is pytest's.
endings._installed = True
# What a shell starts in the background ignores Ctrl-C, and so would the processes that tests start and
# interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, which workers run before all others: one left at the end bounds the end.
LONGEST = (
    "hosts/test_hosts.py", "planning/test_plan_script.py", "planning/test_gpu_programs.py",
    "distributed/test_servers.py", "distributed/test_step.py", "training/test_train.py",
    "planning/test_gpu_kernels.py", "learning/test_step.py", "distributed/test_train.py",
    "training/test_critic_run.py", "learning/test_reference.py", "learning/test_replay.py",
    "distributed/test_rollout.py", "learning/test_critic.py", "training/test_sft.py",
    "training/test_moe_run.py", "benchmarks/test_gpu_check.py", "scripts/test_scripts.py",
    "training/test_algorithm_run.py", "training/test_env_faults.py", "training/test_async.py",
    "training/test_task_app_runs.py")


def pytest_configure(config):
    # xdist's own order of files is by their number of tests: those of few long ones would come last.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    folder = pathlib.Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def compiled_by_scripts(tmp_path_factory):
    """A folder of compiled programs for the processes that tests start, shared by all workers: not the user's
    own. With a limit, as only then JAX locks it; without small programs, as for each it goes through all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled_by_scripts"
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_COMPILATION_CACHE_MAX_SIZE": str(1 << 30),
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """A folder of compiled programs, so that the tests of a worker, and processes that they start, compile
    each once."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache
    folder = tmp_path_factory.mktemp("compiled")
    settings = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def pytest_terminal_summary(terminalreporter):
    """The minutes that each room took, of all workers together: for the table in CONTRIBUTING."""
    seconds = collections.Counter()
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.split("::")[0].split("/")[:2][-1]] += report.duration
    if seconds.total() > 60:
        terminalreporter.section("minutes of workers by room")
        for room, spent in seconds.most_common():
            terminalreporter.line(f"{spent / 60:6.1f} {room}")
