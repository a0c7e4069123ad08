"""SkyRL's keys of GPUs: the mesh, what lies in the host's memory, and who draws.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
from typing import Any

from bridges.dialects.kinds import Invalid
from bridges.dialects.rows import Inputs, Noted, Without
from jaxrl_moe.types import Problem

_POLICY = "trainer.policy"
_MEGATRON = f"{_POLICY}.megatron_config"
_MODE = f"{_POLICY}.nmoe_config.rdep.mode"
_SYNC = {"nccl": "distributed", "gloo": "distributed", "auto": "auto", "checkpoint_engine": "disk"}
_SIZES = {"sglang": "--tp-size", "vllm": "--tensor-parallel-size"}
_MEMORY = {"sglang": "--mem-fraction-static", "vllm": "--gpu-memory-utilization"}


def devices(given: Inputs) -> int:
    """GPUs of the policy."""
    return given["trainer.placement.policy_num_nodes"] * given["trainer.placement.policy_num_gpus_per_node"]


def _splits(given: Inputs) -> tuple[int, int]:
    """(tensor, context) parts of a sequence."""
    context = given[f"{_POLICY}.sequence_parallel_size"] * given[f"{_MEGATRON}.context_parallel_size"]
    return given[f"{_MEGATRON}.tensor_model_parallel_size"], context


def row_parts(given: Inputs) -> int:
    """Parts that a mesh splits rows into: all devices but those of tensor and context."""
    tensor, context = _splits(given)
    total = devices(given)
    if total % (tensor * context):
        raise Invalid(f"x policy_num_nodes makes {total} devices, which tensor x context = {tensor} x "
                      f"{context} do not divide", "change one of them")
    return total // (tensor * context)


def mesh(per_node: int, given: Inputs) -> dict[str, Any]:
    tensor, context = _splits(given)
    rest = row_parts(given)
    mode = given[_MODE] or ("auto" if given[f"{_POLICY}.model.type"] == "nmoe" else "")
    expert = rest if mode in ("ipc", "hybrid", "auto") else given[f"{_MEGATRON}.expert_model_parallel_size"]
    if rest % expert:
        raise Invalid(f"leaves {rest} devices, which {expert} parts of the experts do not divide",
                      "change one of them")
    return {"mesh.fsdp": rest // expert, "mesh.expert": expert, "mesh.tensor": tensor,
            "mesh.context": context}


def _has_reference(given: Inputs) -> bool:
    """Whether a frozen copy of the weights is kept."""
    used = given["trainer.algorithm.use_kl_loss"] or given["trainer.algorithm.use_kl_in_reward"]
    charged = used and given["trainer.algorithm.kl_loss_coef"] > 0
    return bool(charged) and given[f"{_POLICY}.model.lora.rank"] == 0


def offload(wanted: bool, given: Inputs) -> dict[str, Any] | Without:
    if not wanted:
        return Without("all stays on the devices")
    return {"train.offload": ("optimizer", "reference") if _has_reference(given) else ("optimizer",)}


def reference_offload(wanted: bool, given: Inputs) -> dict[str, Any] | Without:
    if not wanted or not _has_reference(given):
        return Without("there is no copy of the weights for the reference" if wanted else
                       "it stays on the devices")
    both = given[f"{_POLICY}.fsdp_config.cpu_offload"]
    return {} if both else {"train.offload": ("reference",)}


def remat(wanted: bool, given: Inputs) -> dict[str, Any]:
    return {"train.remat": "full" if wanted else "none"}


def apart(given: Inputs) -> bool:
    """Whether servers draw, on GPUs of their own."""
    return not given["trainer.placement.colocate_all"]


def engines(together: bool, given: Inputs) -> dict[str, Any]:
    """Who draws: this process, or servers beside it."""
    if together:
        return {"rollout.backend": Noted("jax", "the engine shares the trainer's devices and weights: "
                                         "generator.backend and generator.num_inference_engines start no "
                                         "servers")}
    backend = given["generator.backend"]
    urls = given["generator.remote_inference_engine_urls"]
    settings: dict[str, Any] = {"rollout.backend": backend}
    if not given["generator.run_engines_locally"]:
        if not urls:
            raise Invalid("needs the servers' URLs where generator.run_engines_locally = false",
                          "give generator.remote_inference_engine_urls")
        return settings | {"servers.urls": tuple(url if "://" in url else f"http://{url}" for url in urls)}
    size = given["generator.inference_engine_tensor_parallel_size"]
    flags = f"{_SIZES[backend]} {size}"
    if "generator.gpu_memory_utilization" in given:
        flags += f" {_MEMORY[backend]} {given['generator.gpu_memory_utilization']:g}"
    return settings | {
        "servers.gpus": Noted(gpus(devices(given), given["generator.num_inference_engines"], size),
                              "after the trainer's, which CUDA_VISIBLE_DEVICES says"),
        "servers.flags": flags, "servers.python": no_python(backend)}


def gpus(first: int, count: int, size: int) -> str:
    """CUDA_VISIBLE_DEVICES of servers, one after the other from GPU `first` on: "2,3;4,5"."""
    starts = range(first, first + count * size, size)
    return ";".join(",".join(map(str, range(start, start + size))) for start in starts)


def no_python(backend: str) -> Problem:
    """What speaks against servers that nobody says how to launch."""
    return Problem("servers.python", None, f"is not given: the run launches {backend} by it",
                   f"give --config.servers.python=.venv-{backend}/bin/python, or let the engine of this "
                   "process draw (colocated)")


def weight_sync(name: str, given: Inputs) -> dict[str, Any] | Without:
    if not apart(given):
        return Without("trainer.placement.colocate_all = true: the engine draws with the trainer's own "
                       "weights, and nothing is sent anywhere")
    chosen = "torch.distributed takes nccl or gloo as the servers' devices ask"
    why = chosen if _SYNC[name] == "distributed" else ""
    return {"servers.weight_sync_backend": Noted(_SYNC[name], why)}


def memory(share: float, given: Inputs) -> dict[str, Any] | Without:
    if apart(given) and not given["generator.run_engines_locally"]:
        return Without("the servers run already")
    if apart(given):
        return {}  # stands in the servers' flags
    return {"rollout.memory_fraction": Noted(share, "of what is free beside the weights")}


def slots(count: int, given: Inputs) -> dict[str, Any]:
    return {"servers.concurrency": count} if apart(given) else {"rollout.slots": count}
