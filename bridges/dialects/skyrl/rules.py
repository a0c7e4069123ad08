"""What keys of SkyRL's YAML come to that are more than a number.

Most are effects of a key, as rows.Key has them: (its value, all that was given) -> our settings.
"""
import re
from collections.abc import Mapping
from typing import Any

from bridges.dialects import rows
from bridges.dialects.counting import steps_of_passes
from bridges.dialects.kinds import Invalid
from bridges.dialects.rows import Effect, Inputs, Noted, Without
from bridges.dialects.skyrl.devices import row_parts
from jaxrl_moe.types import Problem

_SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine",
              "cosine_with_warmup": "cosine", "linear": "linear"}
_BASES = re.compile(r"_self_|/?ppo_base_config|"
                    r"/?(nmoe_config|megatron_config|deepspeed_config|skyrl_gym_config)\b.*")
_POLICY = "trainer.policy"
_ALL = 10**6  # checkpoints that a run can keep, where all shall be


def bases(values: Any, given: Inputs) -> Without:
    """Files that Hydra lays the YAML over: SkyRL's own defaults stand in the table."""
    listed = values if isinstance(values, list) else [values]
    for value in listed:
        names = [f"{name}" for name in value] if isinstance(value, Mapping) else [str(value)]
        for name in names:
            if not _BASES.fullmatch(name):
                raise Invalid(f"lays it over {name!r}, which is not at hand",
                              "write its keys into the YAML file")
    return Without("SkyRL's own defaults are known here")


def train_data(paths: tuple[str, ...] | None, given: Inputs) -> dict[str, Any]:
    if not paths:
        return {"data.path": Problem("data.path", None, "is not given", "add data.train_data=[FILE.parquet]")}
    return {"data.path": _single(paths)}


def val_data(paths: tuple[str, ...] | None, given: Inputs) -> dict[str, Any] | Without:
    return {"data.eval_path": _single(paths)} if paths else Without("none is held out")


def _single(paths: tuple[str, ...]) -> str:
    if len(paths) > 1:
        raise Invalid(f"names {len(paths)} files, and prompts come from one", "put their rows into one file")
    return paths[0]


def environment(name: str, given: Inputs) -> dict[str, Any]:
    gym = given["environment.skyrl_gym"] or {}
    named = name if "environment.env_class" in given else gym.get("env_name", name)
    if named == "gsm8k":
        return {"env.name": "gsm8k(binary=true)"}
    return {"env.name": Problem("env.name", None,
                                f"is not known: SkyRL's environment {named!r} is no task here",
                                "give --config.env.name=TASK, see docs/extending/task.md; gsm8k(binary=true) "
                                "pays 1 for the right last number")}


def workers(count: int, given: Inputs) -> dict[str, Any]:
    return {"rollout.graders": max(1, min(count, 1024))}


def model(path: str | None, given: Inputs) -> dict[str, Any]:
    if not path:
        return {"model.path": Problem("model.path", None, "is not given",
                                      "add trainer.policy.model.path=FOLDER")}
    return {"model.path": path}


def dtype(bf16: bool, given: Inputs) -> dict[str, Any]:
    return {"model.dtype": "bfloat16" if bf16 else "float32"}


def adapters(setting: str) -> Effect:
    """A setting of the adapters; where all weights are trained SkyRL's own defaults change nothing."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        if given[f"{_POLICY}.model.lora.rank"] == 0 or value is None:
            return Without("trainer.policy.model.lora.rank = 0 trains all weights")
        return {setting: value}
    return effect


def critic(path: str | None, given: Inputs) -> Without:
    if path is not None and path != given[f"{_POLICY}.model.path"]:
        raise Invalid("is another model than the policy, and the critic is a value head on its trunk",
                      "give the policy's path, or null")
    return Without("a value head on the policy's trunk, where the advantage has a critic")


def profile(name: str, given: Inputs) -> Without:
    if name != "bf16":
        raise Invalid("quantises the experts, which cannot be trained so yet", "give bf16")
    return Without("experts are computed as all weights are, by trainer.bf16")


def minibatches(prompts: int, given: Inputs) -> dict[str, Any]:
    batch = given["trainer.train_batch_size"]
    if batch % prompts:
        raise Invalid(f"does not divide trainer.train_batch_size = {batch}", "choose a divisor")
    return {"algorithm.minibatches": batch // prompts}


def _longest(given: Inputs) -> int:
    return given["trainer.max_prompt_length"] + given["generator.sampling_params.max_generate_length"]


def micro_batch(sequences: int, given: Inputs) -> dict[str, Any]:
    return {"train.tokens_per_micro_batch": sequences * _longest(given) * row_parts(given)}


def steps(epochs: int, given: Inputs) -> dict[str, Any]:
    paths = given["data.train_data"] or (None,)
    return steps_of_passes("trainer.epochs", epochs, paths[0], given["trainer.train_batch_size"])


def betas(values: tuple[float, ...], given: Inputs) -> dict[str, Any]:
    if len(values) != 2:
        raise Invalid("needs two numbers", "give such as [0.9,0.999]")
    return {"optimizer.b1": values[0], "optimizer.b2": values[1]}


def schedule(name: str, given: Inputs) -> dict[str, Any]:
    if name not in _SCHEDULES:
        raise Invalid("is no schedule here. Known", ", ".join(_SCHEDULES))
    return {"optimizer.schedule": _SCHEDULES[name]}


def interval(setting: str) -> Effect:
    """Steps between two of something; -1 and 0 mean never, which here is only at the end."""
    def effect(value: int, given: Inputs) -> dict[str, Any]:
        return {setting: Noted(0, "only at the end") if value <= 0 else value}
    return effect


def with_held_out(setting: str) -> Effect:
    """A setting of evaluations, which need held-out prompts."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        return {setting: value} if given["data.val_data"] else Without("there is no data.val_data")
    return effect


def evaluations(value: int, given: Inputs) -> dict[str, Any] | Without:
    if not given["data.val_data"]:
        return Without("there is no data.val_data")
    return interval("eval.every")(value, given)


def kept(count: int, given: Inputs) -> dict[str, Any]:
    return {"checkpoint.keep": Noted(_ALL, "all of them") if count < 1 else count}


def resume(mode: str | None, given: Inputs) -> dict[str, Any]:
    return {"checkpoint.resume": mode == "latest"}


def logger(names: tuple[str, ...], given: Inputs) -> dict[str, Any]:
    unknown = [name for name in names if name not in ("wandb", "tensorboard", "console")]
    if unknown:
        raise Invalid(f"names {unknown[0]}, which nothing is written to here. Known",
                      "wandb, tensorboard, console")
    wandb = {"logging.wandb_project": given["trainer.project_name"]} if "wandb" in names else {}
    return {"logging.tensorboard": True} | wandb


def top_k(value: int, given: Inputs) -> dict[str, Any]:
    return {"rollout.top_k": max(value, 0)}


def stop(texts: tuple[str, ...] | None, given: Inputs) -> dict[str, Any] | Without:
    return {"rollout.stop_strings": texts} if texts else Without("no stop strings")


def eval_temperature(value: float, given: Inputs) -> dict[str, Any] | Without:
    if not given["data.val_data"]:
        return Without("there is no data.val_data")
    return {"eval.temperature": value} if value > 0 else {
        "eval.greedy": Noted(True, "greedy accuracy, beside that of sampling at temperature 1")}


def as_in_training(key: str) -> Effect:
    """Evaluations draw as the training does."""
    return rows.as_in_training(key, key, "give both the same")


def turns(count: int, given: Inputs) -> Without:
    if count > 1:
        raise Invalid("makes several turns, which a task has by its own settings here", "give 1, and say "
                      "--config.env.name='TASK(max_turns=...)' with --config.episodes.max_tokens")
    return Without("a task has its own turns")


def as_prompt(value: Any, given: Inputs) -> Without:
    if value != given["trainer.max_prompt_length"]:
        raise Invalid("is another length than trainer.max_prompt_length = "
                      f"{given['trainer.max_prompt_length']}", "give both the same; several turns have "
                      "--config.episodes.max_tokens")
    return Without("as trainer.max_prompt_length")


def endpoint(setting: str) -> Effect:
    """A setting of the endpoint, where it is served."""
    def effect(value: Any, given: Inputs) -> dict[str, Any] | Without:
        served = given["generator.enable_http_endpoint"]
        return {setting: value} if served else Without("no endpoint is served")
    return effect
