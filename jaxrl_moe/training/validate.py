"""Checks of the configuration against the tables of names that the other packages keep."""
import dataclasses
import difflib
import importlib.util
import warnings
from collections.abc import Iterator

import jax

from jaxrl_moe import config_checks
from jaxrl_moe.config import Config, ConfigError
from jaxrl_moe.envs import ENVS, make_env
from jaxrl_moe.kernels import attention, grouped_matmul
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import REMAT
from jaxrl_moe.rl.advantages import ADVANTAGES
from jaxrl_moe.rl.aggregation import AGGREGATIONS
from jaxrl_moe.rl.kl import KL_ESTIMATORS
from jaxrl_moe.rl.losses import LOSSES
from jaxrl_moe.training.optimizer import SCHEDULES
from jaxrl_moe.training.preflight import has_warm_up
from jaxrl_moe.training.samples import TRUNCATED

TABLES = {
    "algorithm.advantage": ADVANTAGES, "algorithm.loss": LOSSES, "algorithm.aggregation": AGGREGATIONS,
    "algorithm.kl_estimator": KL_ESTIMATORS, "optimizer.schedule": SCHEDULES, "train.remat": REMAT,
    "algorithm.truncated": TRUNCATED,
    "model.attention": ("auto", *attention.BACKENDS), "model.grouped_matmul": ("auto", *grouped_matmul.BACKENDS)}


def validate(config: Config, *, rl: bool = True) -> None:
    """Refuses names that no table has, and settings that the coming phase needs but lacks.

    Args:
      config: resolved already.
      rl: whether there is an RL phase, which needs prompts and an environment; not in pure SFT or an evaluation.

    Raises:
      ConfigError: naming the field, the value and the known names, the nearest first.
      UserError: a setting of the environment that it does not have.
    """
    for field, table in TABLES.items():
        _check_name(config, field, table)
    if rl or config.env.name:
        _check_name(config, "env.name", ENVS)
        make_env(**dataclasses.asdict(config.env))
    for problem in _missing_backends(config):
        raise ConfigError(problem)
    required = {"model.path": "an HF checkpoint folder or a hub name"}
    if rl:
        required["data.path"] = "a jsonl, json or parquet file, or a hub data set such as openai/gsm8k"
    for field, meaning in required.items():
        if not _value(config, field):
            raise ConfigError(f"{field} is empty: give {meaning}.")
    for problem in _phase_problems(config, rl):
        raise ConfigError(problem)


def _phase_problems(config: Config, rl: bool) -> Iterator[str]:
    if rl:
        if config.rollout.group_size == 1 and ADVANTAGES[config.algorithm.advantage].needs_group:
            yield (f"algorithm.advantage = {config.algorithm.advantage!r} compares the completions of one prompt, so with "
                   "rollout.group_size = 1 every advantage is 0 and nothing is learnt: set rollout.group_size to 2 or more.")
        yield from config_checks.rl_problems(config)
    if has_warm_up(config):
        yield from config_checks.sft_problems(config)


def sft_only(config: Config) -> None:
    """What scripts/sft.py needs beyond `validate`."""
    if not config.sft.path:
        raise ConfigError("sft.path is empty: give a jsonl, json or parquet file of conversations.")
    if not config.sft.steps and not config.sft.epochs:
        raise ConfigError("sft.steps and sft.epochs are both 0, so there is nothing to do: set one of them.")
    if config.sft.eval_every and not config.env.name:
        raise ConfigError(f"sft.eval_every = {config.sft.eval_every} has no effect, as env.name names no task to grade "
                          f"completions: set it (known: {', '.join(ENVS)}), or sft.eval_every=0.")


def warn_of_router(config: Config, model: ModelConfig) -> None:
    """Warns when full fine-tuning trains a router without the balancing loss that its checkpoint asks for."""
    if config.lora.rank == 0 and any(model.sparse_layers) and model.router_aux_loss_coef > 0:
        warnings.warn(f"Full fine-tuning trains the routers of {config.model.path!r} without a balancing loss: its "
                      f"router_aux_loss_coef = {model.router_aux_loss_coef:g} is not applied yet. Watch moe/max_vio, or train "
                      "adapters (lora.rank > 0), which leave the routers as they are.", stacklevel=2)


def evaluation_only(config: Config) -> None:
    """What scripts/evaluate.py needs beyond `validate`."""
    _check_name(config, "env.name", ENVS)
    if not config.data.eval_path:
        raise ConfigError("data.eval_path is empty, so there is nothing to evaluate on: give held-out prompts.")


def _missing_backends(config: Config) -> Iterator[str]:
    """Kernels that this machine cannot run."""
    if config.model.grouped_matmul == "tokamax" and importlib.util.find_spec("tokamax") is None:
        yield ("model.grouped_matmul = 'tokamax' needs the package tokamax, which is not installed: pip install "
               "'jaxrl-moe[cuda]' on Python >= 3.12, or use auto.")
    if config.model.attention == "cudnn" and jax.default_backend() != "gpu":
        yield (f"model.attention = 'cudnn' needs an NVIDIA GPU, and JAX runs on {jax.default_backend()}: use auto, or install "
               "the extra `cuda` on a machine that has one.")
    if config.model.attention == "cudnn" and config.model.dtype == "float32":
        yield "model.attention = 'cudnn' has no float32 kernel: set model.dtype=bfloat16, or use auto."


def _value(config: Config, field: str):
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _check_name(config: Config, field: str, table) -> None:
    value = _value(config, field)
    if value not in table:
        near = difflib.get_close_matches(value, table, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{field} = {value!r} is not known.{hint} Known: {', '.join(table)}.")
