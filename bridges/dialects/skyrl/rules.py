"""What keys of SkyRL's YAML come to that are more than a number."""
import re
from collections.abc import Mapping
from typing import Any

from bridges.dialects.counting import steps_of_passes
from bridges.dialects.kinds import Refused
from bridges.dialects.rows import Effect, Given, Noted, Without
from jaxrl_moe.types import Problem

_POLICY = "trainer.policy"
_MEGATRON = f"{_POLICY}.megatron_config"
_MODE = f"{_POLICY}.nmoe_config.rdep.mode"
_SYNC = {"nccl": "distributed", "gloo": "distributed", "auto": "auto", "checkpoint_engine": "disk"}
_SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine",
              "cosine_with_warmup": "cosine", "linear": "linear"}
_BASES = re.compile(r"_self_|/?ppo_base_config|"
                    r"/?(nmoe_config|megatron_config|deepspeed_config|skyrl_gym_config)\b.*")
_SIZES = {"sglang": "--tp-size", "vllm": "--tensor-parallel-size"}
_MEMORY = {"sglang": "--mem-fraction-static", "vllm": "--gpu-memory-utilization"}
_ALL = 10**6  # checkpoints that a run can keep, where all shall be


def bases(values: Any, given: Given) -> Without:
    """Files that Hydra lays the YAML over: SkyRL's own defaults stand in the table."""
    listed = values if isinstance(values, list) else [values]
    for value in listed:
        names = [f"{name}" for name in value] if isinstance(value, Mapping) else [str(value)]
        for name in names:
            if not _BASES.fullmatch(name):
                raise Refused(f"lays it over {name!r}, which is not at "
                              "hand", "write its keys into the YAML file")
    return Without("SkyRL's own defaults are known here")


def train_data(paths: tuple[str, ...] | None, given: Given) -> dict[str, Any]:
    if not paths:
        return {"data.path": Problem("data.path", None, "is not given", "add data.train_data=[FILE.parquet]")}
    return {"data.path": _single(paths)}


def val_data(paths: tuple[str, ...] | None, given: Given) -> dict[str, Any] | Without:
    return {"data.eval_path": _single(paths)} if paths else Without("none is held out")


def _single(paths: tuple[str, ...]) -> str:
    if len(paths) > 1:
        raise Refused(f"names {len(paths)} files, and prompts come from one", "put their rows into one file")
    return paths[0]


def environment(name: str, given: Given) -> dict[str, Any]:
    gym = given["environment.skyrl_gym"] or {}
    named = name if "environment.env_class" in given else gym.get("env_name", name)
    if named == "gsm8k":
        return {"env.name": "gsm8k(binary=true)"}
    return {"env.name": Problem("env.name", None, f"is not known: SkyRL's environment {named!r} is no task "
                                                  "here",
                                "give --config.env.name=TASK, see docs/extending/task.md; "
                                "gsm8k(binary=true) pays 1 "
                                "for the right last number")}


def workers(count: int, given: Given) -> dict[str, Any]:
    return {"rollout.graders": max(1, min(count, 1024))}


def model(path: str | None, given: Given) -> dict[str, Any]:
    if not path:
        return {"model.path": Problem("model.path", None, "is not given",
                                      "add trainer.policy.model.path=FOLDER")}
    return {"model.path": path}


def dtype(bf16: bool, given: Given) -> dict[str, Any]:
    return {"model.dtype": "bfloat16" if bf16 else "float32"}


def adapters(setting: str) -> Effect:
    """A setting of the adapters; where all weights are trained SkyRL's own defaults change nothing."""
    def effect(value: Any, given: Given) -> dict[str, Any] | Without:
        if given[f"{_POLICY}.model.lora.rank"] == 0 or value is None:
            return Without("trainer.policy.model.lora.rank = 0 trains all weights")
        return {setting: value}
    return effect


def critic(path: str | None, given: Given) -> Without:
    if path is not None and path != given[f"{_POLICY}.model.path"]:
        raise Refused("is another model than the policy, and the critic is a value head on its trunk",
                      "give the policy's path, or null")
    return Without("a value head on the policy's trunk, where the advantage has a critic")


def profile(name: str, given: Given) -> Without:
    if name != "bf16":
        raise Refused("quantises the experts, which cannot be trained so yet", "give bf16")
    return Without("experts are computed as all weights are, by trainer.bf16")


def devices(given: Given) -> int:
    """GPUs of the policy."""
    return given["trainer.placement.policy_num_nodes"] * given["trainer.placement.policy_num_gpus_per_node"]


def _splits(given: Given) -> tuple[int, int]:
    """(tensor, context) parts of a sequence."""
    context = given[f"{_POLICY}.sequence_parallel_size"] * given[f"{_MEGATRON}.context_parallel_size"]
    return given[f"{_MEGATRON}.tensor_model_parallel_size"], context


def row_parts(given: Given) -> int:
    """Parts that a mesh splits rows into: all devices but those of tensor and context."""
    tensor, context = _splits(given)
    total = devices(given)
    if total % (tensor * context):
        raise Refused(f"x policy_num_nodes makes {total} devices, which tensor x context = {tensor} x "
                      f"{context} do not "
                      "divide", "change one of them")
    return total // (tensor * context)


def mesh(per_node: int, given: Given) -> dict[str, Any]:
    tensor, context = _splits(given)
    rest = row_parts(given)
    mode = given[_MODE] or ("auto" if given[f"{_POLICY}.model.type"] == "nmoe" else "")
    expert = rest if mode in ("ipc", "hybrid", "auto") else given[f"{_MEGATRON}.expert_model_parallel_size"]
    if rest % expert:
        raise Refused(f"leaves {rest} devices, which {expert} parts of the experts do not "
                      "divide", "change one of them")
    return {"mesh.fsdp": rest // expert, "mesh.expert": expert, "mesh.tensor": tensor,
            "mesh.context": context}


def _has_reference(given: Given) -> bool:
    """Whether a frozen copy of the weights is kept."""
    used = given["trainer.algorithm.use_kl_loss"] or given["trainer.algorithm.use_kl_in_reward"]
    charged = used and given["trainer.algorithm.kl_loss_coef"] > 0
    return bool(charged) and given[f"{_POLICY}.model.lora.rank"] == 0


def offload(wanted: bool, given: Given) -> dict[str, Any] | Without:
    if not wanted:
        return Without("all stays on the devices")
    return {"train.offload": ("optimizer", "reference") if _has_reference(given) else ("optimizer",)}


def reference_offload(wanted: bool, given: Given) -> dict[str, Any] | Without:
    if not wanted or not _has_reference(given):
        return Without("there is no copy of the weights for the "
                       "reference" if wanted else "it stays on the devices")
    both = given[f"{_POLICY}.fsdp_config.cpu_offload"]
    return {} if both else {"train.offload": ("reference",)}


def remat(wanted: bool, given: Given) -> dict[str, Any]:
    return {"train.remat": "full" if wanted else "none"}


def minibatches(prompts: int, given: Given) -> dict[str, Any]:
    batch = given["trainer.train_batch_size"]
    if batch % prompts:
        raise Refused(f"does not divide trainer.train_batch_size = {batch}", "choose a divisor")
    return {"algorithm.minibatches": batch // prompts}


def _longest(given: Given) -> int:
    return given["trainer.max_prompt_length"] + given["generator.sampling_params.max_generate_length"]


def micro_batch(sequences: int, given: Given) -> dict[str, Any]:
    return {"train.tokens_per_micro_batch": sequences * _longest(given) * row_parts(given)}


def steps(epochs: int, given: Given) -> dict[str, Any]:
    paths = given["data.train_data"] or (None,)
    return steps_of_passes("trainer.epochs", epochs, paths[0], given["trainer.train_batch_size"])


def betas(values: tuple[float, ...], given: Given) -> dict[str, Any]:
    if len(values) != 2:
        raise Refused("needs two numbers", "give such as [0.9,0.999]")
    return {"optimizer.b1": values[0], "optimizer.b2": values[1]}


def schedule(name: str, given: Given) -> dict[str, Any]:
    if name not in _SCHEDULES:
        raise Refused("is no schedule here. Known", ", ".join(_SCHEDULES))
    return {"optimizer.schedule": _SCHEDULES[name]}


def interval(setting: str) -> Effect:
    """Steps between two of something; -1 and 0 mean never, which here is only at the end."""
    def effect(value: int, given: Given) -> dict[str, Any]:
        return {setting: Noted(0, "only at the end") if value <= 0 else value}
    return effect


def with_held_out(setting: str) -> Effect:
    """A setting of evaluations, which need held-out prompts."""
    def effect(value: Any, given: Given) -> dict[str, Any] | Without:
        return {setting: value} if given["data.val_data"] else Without("there is no data.val_data")
    return effect


def evaluations(value: int, given: Given) -> dict[str, Any] | Without:
    if not given["data.val_data"]:
        return Without("there is no data.val_data")
    return interval("eval.every")(value, given)


def kept(count: int, given: Given) -> dict[str, Any]:
    return {"checkpoint.keep": Noted(_ALL, "all of them") if count < 1 else count}


def resume(mode: str | None, given: Given) -> dict[str, Any]:
    return {"checkpoint.resume": mode == "latest"}


def logger(names: tuple[str, ...], given: Given) -> dict[str, Any]:
    unknown = [name for name in names if name not in ("wandb", "tensorboard", "console")]
    if unknown:
        raise Refused(f"names {unknown[0]}, which nothing is written to here. "
                      "Known", "wandb, tensorboard, console")
    wandb = {"logging.wandb_project": given["trainer.project_name"]} if "wandb" in names else {}
    return {"logging.tensorboard": True} | wandb


def top_k(value: int, given: Given) -> dict[str, Any]:
    return {"rollout.top_k": max(value, 0)}


def stop(texts: tuple[str, ...] | None, given: Given) -> dict[str, Any] | Without:
    return {"rollout.stop_strings": texts} if texts else Without("no stop strings")


def eval_temperature(value: float, given: Given) -> dict[str, Any] | Without:
    if not given["data.val_data"]:
        return Without("there is no data.val_data")
    return {"eval.temperature": value} if value > 0 else {
        "eval.greedy": Noted(True, "greedy accuracy, beside that of sampling at temperature 1")}


def as_in_training(key: str) -> Effect:
    """Evaluations draw as the training does, but for their temperature."""
    def effect(value: Any, given: Given) -> Without:
        if value != given[key]:
            raise Refused(f"is another value than {key} = {given[key]}, and evaluations draw as the "
                          "training does",
                          "give both the same")
        return Without("evaluations draw as the training does")
    return effect


def turns(count: int, given: Given) -> Without:
    if count > 1:
        raise Refused("makes several turns, which a task has by its own settings here",
                      "give 1, and say --config.env.name='TASK(max_turns=...)' with "
                      "--config.episodes.max_tokens")
    return Without("a task has its own turns")


def as_prompt(value: Any, given: Given) -> Without:
    if value != given["trainer.max_prompt_length"]:
        raise Refused(f"is another length than trainer.max_prompt_length = "
                      f"{given['trainer.max_prompt_length']}",
                      "give both the same; several turns have --config.episodes.max_tokens")
    return Without("as trainer.max_prompt_length")


def apart(given: Given) -> bool:
    """Whether servers draw, on GPUs of their own."""
    return not given["trainer.placement.colocate_all"]


def engines(together: bool, given: Given) -> dict[str, Any]:
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
            raise Refused("needs the servers' URLs where generator.run_engines_locally = false",
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
    return Problem("servers.python", None, f"is not given: the run launches {backend} by it", "give "
                   f"--config.servers.python=.venv-{backend}/bin/python, or let the engine of this process "
                   "draw "
                   "(colocated)")


def weight_sync(name: str, given: Given) -> dict[str, Any] | Without:
    if not apart(given):
        return Without("trainer.placement.colocate_all = true: the engine draws with the trainer's own "
                       "weights, and "
                       "nothing is sent anywhere")
    return {"servers.weight_sync_backend": Noted(_SYNC[name], "torch.distributed chooses gloo or nccl by the "
                                                 "servers' devices" if name in ("nccl", "gloo") else "")}


def memory(share: float, given: Given) -> dict[str, Any] | Without:
    if apart(given):
        return {}  # stands in the servers' flags
    return {"rollout.memory_fraction": Noted(share, "of what is free beside the weights")}


def slots(count: int, given: Given) -> dict[str, Any]:
    return {"servers.concurrency": count} if apart(given) else {"rollout.slots": count}


def endpoint(setting: str) -> Effect:
    """A setting of the endpoint, where it is served."""
    def effect(value: Any, given: Given) -> dict[str, Any] | Without:
        served = given["generator.enable_http_endpoint"]
        return {setting: value} if served else Without("no endpoint is served")
    return effect
