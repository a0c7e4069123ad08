"""What the machine must have: packages of the optional extras, kernels and memory that its devices offer."""
import importlib.util
from collections.abc import Iterator

from jaxrl_moe.checks.start import Job, Start
from jaxrl_moe.config import Config
from jaxrl_moe.distributed import offload
from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.types import Problem

SERVE = ("fastapi", "pydantic", "uvicorn")


def package_problems(start: Start) -> Iterator[Problem]:
    """Yields settings that need packages which are not installed, with the command that installs them."""
    config = start.config
    if config.model.grouped_matmul == "tokamax" and _absent("tokamax"):
        yield Problem("model.grouped_matmul", "tokamax", "needs the package tokamax, which is not installed",
                      "pip install 'jaxrl-moe[cuda]' on Python >= 3.12, or use auto")
    if config.logging.wandb_project and start.job is not Job.EVALUATE and _absent("wandb"):
        yield Problem("logging.wandb_project", config.logging.wandb_project,
                      "needs wandb, which is not installed",
                      "pip install wandb, or set logging.wandb_project to an empty string")
    if start.rl:
        yield from _of_rollout(config)


def _of_rollout(config: Config) -> Iterator[Problem]:
    missing = [name for name in SERVE if _absent(name)]
    if config.endpoint.serve and missing:
        yield Problem("endpoint.serve", None,
                      f"needs {', '.join(missing)}, which is not installed and comes with the extra `serve`",
                      'pip install -e ".[serve]", or set endpoint.serve=false')
    backend = config.rollout.backend
    sync = config.servers.weight_sync_backend
    if backend != "jax" and _absent("httpx"):
        yield Problem("rollout.backend", backend,
                      "needs httpx, which is not installed and comes with the extra `servers`",
                      'pip install -e ".[servers]", or set rollout.backend=jax')
    if backend != "jax" and sync == "distributed" and _absent("torch"):
        yield Problem("servers.weight_sync_backend", sync,
                      "needs torch, which is not installed and comes with the extra `distributed`",
                      "pip install 'jaxrl-moe[distributed]', or use another")


def _absent(name: str) -> bool:
    return importlib.util.find_spec(name) is None


def device_problems(start: Start) -> Iterator[Problem]:
    """Yields settings that the devices, or what JAX reaches of them, cannot follow."""
    config = start.config
    if config.train.offload and not offload.available():
        yield Problem("train.offload", config.train.offload, "needs the host's pinned memory "
                      f"({offload.KIND}), which the backend {platform_of()} does not reach", "leave it empty")
    if config.model.attention != "cudnn":
        return
    if platform_of() != "gpu":
        yield Problem("model.attention", "cudnn", f"needs an NVIDIA GPU, and JAX runs on {platform_of()}",
                      "use auto, or install the extra `cuda` on a machine that has one")
    if config.model.dtype == "float32":
        yield Problem("model.attention", "cudnn", "has no float32 kernel",
                      "set model.dtype=bfloat16, or use auto")
