"""slime's flags of GPUs: the mesh, what lies in the host's memory, and who draws.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
import itertools
import shlex
from typing import Any

from bridges.dialects.kinds import Invalid
from bridges.dialects.rows import Inputs, Noted, Without
from bridges.dialects.skyrl.devices import gpus, no_python
from bridges.dialects.slime.algorithm import kl_coef


def row_parts(given: Inputs) -> int:
    """Parts that a mesh splits rows into: data x expert."""
    return _data_parts(given) * given["expert-model-parallel-size"]


def _data_parts(given: Inputs) -> int:
    per_node = given["actor-num-gpus-per-node"]
    model_parts = (given["tensor-model-parallel-size"] * given["context-parallel-size"]
                   * given["expert-model-parallel-size"])
    total = per_node * given["actor-num-nodes"] if per_node else model_parts
    if total % model_parts:
        raise Invalid(f"x --actor-num-nodes makes {total} GPUs, which tensor x context x expert = "
                      f"{model_parts} do not divide", "change one of them")
    return total // model_parts


def data_parallel(per_node: int, given: Inputs) -> dict[str, Any]:
    return {"mesh.fsdp": _data_parts(given)}


def _trainer(given: Inputs) -> int:
    return row_parts(given) * given["tensor-model-parallel-size"] * given["context-parallel-size"]


def apart(given: Inputs) -> bool:
    """Whether SGLang's servers draw, on GPUs of their own."""
    return bool(given["rollout-num-gpus"]) and not given["colocate"]


def colocate(together: bool, given: Inputs) -> dict[str, Any]:
    count = given["rollout-num-gpus"]
    size = given["rollout-num-gpus-per-engine"]
    if not apart(given):
        return {"rollout.backend": Noted("jax", "the engine of this process draws on the trainer's devices")}
    if count % size:
        raise Invalid(f"with --rollout-num-gpus {count} makes no whole engines of {size} GPUs",
                      "change one of them")
    return {"rollout.backend": "sglang", "servers.flags": _sglang_flags(given, size),
            "servers.gpus": Noted(gpus(_trainer(given), count // size, size),
                                  "after the trainer's, which CUDA_VISIBLE_DEVICES says"),
            "servers.python": no_python("sglang")}


def _sglang_flags(given: Inputs, size: int) -> str:
    passed_on = [[f"--{name}", *words] for name, words in given.under("sglang-")]
    return shlex.join(["--tp-size", str(size), *itertools.chain.from_iterable(passed_on)])


def for_sglang(value: Any, given: Inputs) -> dict[str, Any] | Without:
    if apart(given):
        return {}
    return Without("no server of SGLang is started: --rollout-num-gpus without --colocate would")


def remat(name: str, given: Inputs) -> dict[str, Any]:
    return {"train.remat": "full" if name == "full" else "mlp"}


def _has_reference(given: Inputs) -> bool:
    return kl_coef(given)[0] > 0


def offload(value: bool, given: Inputs) -> dict[str, Any]:
    both = given["offload-ref"] and _has_reference(given)
    return {"train.offload": ("optimizer", "reference") if both else ("optimizer",)}


def offload_reference(value: bool, given: Inputs) -> dict[str, Any] | Without:
    if not _has_reference(given):
        return Without("no KL is charged, and no reference kept")
    return {} if given["optimizer-cpu-offload"] else {"train.offload": ("reference",)}
