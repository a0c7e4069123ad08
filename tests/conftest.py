"""Eight virtual CPU devices for every test, set before JAX starts."""
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of a test's time is compilation; level 0 halves it. The benchmarks and the README's commands run at the default.
os.environ["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
                           " --xla_backend_optimization_level=0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
