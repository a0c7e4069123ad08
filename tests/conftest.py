"""Eight virtual CPU devices for every test, set before JAX starts; a GPU, with the CPU beside it, where JAXRL_MOE_GPU=1."""
import importlib.metadata
import os

import pytest

GPU = os.environ.get("JAXRL_MOE_GPU", "")  # 1: run tests/gpu on a GPU | rehearse: on the CPU, as they are written; see tests/gpu


def on_cpus():
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Most of a test's time is compilation; level 0 halves it. The benchmarks and the README's commands run at the default.
    os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
                               " --xla_backend_optimization_level=0")
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # the older code generator halves it again
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"


def on_a_gpu():
    os.environ["JAX_PLATFORMS"] = "cuda,cpu"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the processes that tests start share the card


on_a_gpu() if GPU not in ("", "rehearse") else on_cpus()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def compiled_by_scripts(tmp_path_factory):
    """A folder of compiled programs for the processes that tests start, shared by all workers: not the user's own. With a
    limit, as only then JAX locks it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled_by_scripts"
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_COMPILATION_CACHE_MAX_SIZE": str(1 << 30)}


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """A folder of compiled programs, so that the tests of a worker, and processes that they start, compile each once."""
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
