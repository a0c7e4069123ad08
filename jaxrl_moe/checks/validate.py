"""Checks of the configuration against the tables of names that the other packages keep."""
import dataclasses
import importlib.util
import warnings
from collections.abc import Iterator

from jaxrl_moe import config_checks
from jaxrl_moe.checks.algorithm_checks import algorithm_problems, check_name, idle_settings, refuse_unknown_specs
from jaxrl_moe.checks.server_checks import server_problems
from jaxrl_moe.config import Config, ConfigError
from jaxrl_moe.distributed import offload
from jaxrl_moe.distributed.chips import platform_of
from jaxrl_moe.envs import TASKS, make_task
from jaxrl_moe.kernels import attention, grouped_matmul
from jaxrl_moe.learning.optimizer import SCHEDULES
from jaxrl_moe.learning.programs import OFFLOAD
from jaxrl_moe.learning.replay import REPLAY
from jaxrl_moe.learning.rewards import RETURNS, STEP_REWARDS
from jaxrl_moe.learning.samples import TRUNCATED
from jaxrl_moe.learning.state import ROUTER, trains_router
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import REMAT
from jaxrl_moe.phases import has_warm_up
from jaxrl_moe.rl.advantages import ADVANTAGES, find_advantage
from jaxrl_moe.rl.aggregation import AGGREGATIONS
from jaxrl_moe.rl.kl import KL_ESTIMATORS

TABLES = {
    "algorithm.aggregation": AGGREGATIONS, "algorithm.kl_estimator": KL_ESTIMATORS,
    "algorithm.returns": RETURNS, "algorithm.step_rewards": STEP_REWARDS, "optimizer.schedule": SCHEDULES, "train.remat": REMAT,
    "algorithm.truncated": TRUNCATED, "moe.replay": REPLAY, "moe.router": ROUTER,
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
    refuse_unknown_specs(config.algorithm)
    for field, table in TABLES.items():
        _check_name(config, field, table)
    if rl or config.env.name:
        make_task(config.env.name).close()
    for part in config.train.offload:
        check_name("train.offload", part, OFFLOAD)
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
    if rl:
        warn_of_staleness(config)


def _phase_problems(config: Config, rl: bool) -> Iterator[str]:
    if rl:
        yield from idle_settings(config)
        yield from algorithm_problems(config)
        yield from critic_problems(config)
        yield from config_checks.rl_problems(config)
        yield from server_problems(config)
    if has_warm_up(config):
        yield from config_checks.sft_problems(config)


def critic_problems(config: Config) -> Iterator[str]:
    """Yields settings of a critic or of discounting that the advantage would not read."""
    algorithm, row = config.algorithm, find_advantage(config.algorithm.advantage)
    without = f"algorithm.advantage = {algorithm.advantage!r}"
    for field in dataclasses.fields(config.critic):
        value = getattr(config.critic, field.name)
        if not row.critic and value != field.default:
            yield (f"critic.{field.name} = {value!r} has no effect, as {without} has no critic: choose one that has "
                   f"({', '.join(name for name, other in ADVANTAGES.items() if other.critic)}), or leave it at {field.default!r}.")
    if algorithm.truncated == "bootstrap" and row.critic != "token":
        yield (f"algorithm.truncated = 'bootstrap' goes on with a critic's value at the cut, and {without} has no value a token: "
               "choose gae, or algorithm.truncated=keep.")
    if algorithm.lam != 1 and row.critic != "token":
        yield (f"algorithm.lam = {algorithm.lam} has no effect, as {without} is no generalised advantage estimation: choose gae, or "
               "set algorithm.lam=1.")
    if algorithm.gamma != 1 and not row.per_token:
        yield (f"algorithm.gamma = {algorithm.gamma} has no effect, as {without} gives one value to a whole completion: choose "
               f"{' or '.join(name for name, other in ADVANTAGES.items() if other.per_token)}, or set algorithm.gamma=1. The discount "
               "from turn to turn is algorithm.turn_gamma.")


def sft_only(config: Config) -> None:
    """What scripts/sft.py needs beyond `validate`."""
    if not config.sft.path:
        raise ConfigError("sft.path is empty: give a jsonl, json or parquet file of conversations.")
    if not config.sft.steps and not config.sft.epochs:
        raise ConfigError("sft.steps and sft.epochs are both 0, so there is nothing to do: set one of them.")
    if config.sft.eval_every and not config.env.name:
        raise ConfigError(f"sft.eval_every = {config.sft.eval_every} has no effect, as env.name names no task to grade "
                          f"completions: set it (known: {', '.join(TASKS)}), or sft.eval_every=0.")


def check_router(config: Config, model: ModelConfig) -> None:
    """Refuses settings of the moe section that the model cannot follow.

    Raises:
      ConfigError: the model is dense, or has no selection bias to move.
    """
    moe, path = config.moe, config.model.path
    chosen = [f"moe.{field.name} = {getattr(moe, field.name)!r}" for field in dataclasses.fields(moe)
              if getattr(moe, field.name) != field.default]
    if chosen and not any(model.sparse_layers):
        raise ConfigError(f"{', '.join(chosen)}: this concerns routers, and the model {path!r} is dense, it has none. Leave the moe "
                          "section as it is, or take a Mixture-of-Experts model.")
    if moe.bias_rate > 0 and not model.router_bias:
        raise ConfigError(f"moe.bias_rate = {moe.bias_rate:g} moves the routers' selection bias, and the model {path!r} has none: "
                          "set moe.bias_rate=0 and balance by moe.aux_loss_coef, or take a model that has one; "
                          "scratch.router_bias=true makes one from scratch.")


def warn_of_staleness(config: Config) -> None:
    """Warns of rollouts of older weights that nothing corrects for."""
    staleness, algorithm = config.rollout.max_staleness, config.algorithm
    if staleness and not algorithm.bypass and not algorithm.corrections:
        warnings.warn(f"rollout.max_staleness = {staleness} trains on tokens of weights up to {staleness} versions old, and the importance "
                      "ratios start from the weights of the update, so nothing weighs the difference: set algorithm.corrections=tis (or "
                      "icepop), or algorithm.bypass=true to have the ratios and their clipping start from the sampler's log-probs. "
                      "mismatch/* tells how large it is.", stacklevel=2)


def warn_of_router(config: Config, model: ModelConfig) -> None:
    """Warns of routers that are trained without the balancing that their checkpoint asks for, or balanced without being trained."""
    moe, path, rank = config.moe, config.model.path, config.lora.rank
    if not any(model.sparse_layers):
        return
    trained, asked = trains_router(rank > 0, ROUTER[moe.router]), model.router_aux_loss_coef
    if trained and asked > 0 and not (moe.aux_loss_coef or moe.bias_rate):
        warnings.warn(f"This run trains the routers of {path!r} without balancing them, and the checkpoint asks for "
                      f"router_aux_loss_coef = {asked:g}: set moe.aux_loss_coef={asked:g} to apply it, or moe.router=freeze to "
                      "leave the routers as they are. Watch moe/max_vio.", stacklevel=2)
    if not trained and (moe.aux_loss_coef or moe.z_loss_coef):
        warnings.warn(f"The routers are frozen (moe.router = {moe.router!r}, lora.rank = {rank}), so moe.aux_loss_coef and "
                      "moe.z_loss_coef train the layers below them instead, and bend what these hand to the routers. Set "
                      "moe.router=train if the routers shall learn it, or both coefficients to 0.", stacklevel=2)


def evaluation_only(config: Config) -> None:
    """What scripts/evaluate.py needs beyond `validate`."""
    make_task(config.env.name).close()
    if not config.data.eval_path:
        raise ConfigError("data.eval_path is empty, so there is nothing to evaluate on: give held-out prompts.")


def _missing_backends(config: Config) -> Iterator[str]:
    """Kernels that this machine cannot run."""
    if config.model.grouped_matmul == "tokamax" and importlib.util.find_spec("tokamax") is None:
        yield ("model.grouped_matmul = 'tokamax' needs the package tokamax, which is not installed: pip install "
               "'jaxrl-moe[cuda]' on Python >= 3.12, or use auto.")
    if config.train.offload and not offload.available():
        yield (f"train.offload = {','.join(config.train.offload)} needs the host's pinned memory ({offload.KIND}), which the backend "
               f"{platform_of()} does not reach: leave it empty.")
    if config.model.attention == "cudnn" and platform_of() != "gpu":
        yield (f"model.attention = 'cudnn' needs an NVIDIA GPU, and JAX runs on {platform_of()}: use auto, or install "
               "the extra `cuda` on a machine that has one.")
    if config.model.attention == "cudnn" and config.model.dtype == "float32":
        yield "model.attention = 'cudnn' has no float32 kernel: set model.dtype=bfloat16, or use auto."


def _value(config: Config, field: str):
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _check_name(config: Config, field: str, table) -> None:
    check_name(field, _value(config, field), table)
