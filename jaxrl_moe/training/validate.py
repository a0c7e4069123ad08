"""Checks of the configuration against the tables of names that the other packages keep."""
import difflib
from collections.abc import Iterator

from jaxrl_moe import config_checks
from jaxrl_moe.config import Config, ConfigError
from jaxrl_moe.envs import ENVS
from jaxrl_moe.kernels import attention, grouped_matmul
from jaxrl_moe.model.transformer import REMAT
from jaxrl_moe.rl.advantages import ADVANTAGES
from jaxrl_moe.rl.aggregation import AGGREGATIONS
from jaxrl_moe.rl.kl import KL_ESTIMATORS
from jaxrl_moe.rl.losses import LOSSES
from jaxrl_moe.training.optimizer import SCHEDULES

TABLES = {
    "algorithm.advantage": ADVANTAGES, "algorithm.loss": LOSSES, "algorithm.aggregation": AGGREGATIONS,
    "algorithm.kl_estimator": KL_ESTIMATORS, "optimizer.schedule": SCHEDULES, "train.remat": REMAT,
    "model.attention": ("auto", *attention.BACKENDS), "model.grouped_matmul": ("auto", *grouped_matmul.BACKENDS)}


def validate(config: Config, *, rl: bool = True) -> None:
    """Refuses names that no table has, and settings that the coming phase needs but lacks.

    Args:
      config: resolved already.
      rl: whether prompts and an environment are needed (neither for pure SFT nor for an evaluation).

    Raises:
      ConfigError: naming the field, the value and the known names, the nearest first.
    """
    for field, table in TABLES.items():
        _check_name(config, field, table)
    required = {"model.path": "an HF checkpoint folder or a hub name"}
    if rl:
        _check_name(config, "env.name", ENVS)
        required["data.path"] = "a jsonl, json or parquet file, or a hub data set such as openai/gsm8k"
    for field, meaning in required.items():
        if not _value(config, field):
            raise ConfigError(f"{field} is empty: give {meaning}.")
    for problem in _phase_problems(config, rl):
        raise ConfigError(problem)


def has_sft(config: Config) -> bool:
    """Whether the recipe has an SFT phase."""
    return bool(config.sft.path and (config.sft.steps or config.sft.epochs))


def _phase_problems(config: Config, rl: bool) -> Iterator[str]:
    if rl:
        yield from config_checks.rl_problems(config)
        if config.rollout.group_size == 1 and ADVANTAGES[config.algorithm.advantage].needs_group:
            yield (f"algorithm.advantage = {config.algorithm.advantage!r} compares the completions of one prompt, so with "
                   "rollout.group_size = 1 every advantage is 0 and nothing is learnt: set rollout.group_size to 2 or more.")
    if has_sft(config):
        yield from config_checks.sft_problems(config)


def sft_only(config: Config) -> None:
    """What scripts/sft.py needs beyond `validate`."""
    if not config.sft.path:
        raise ConfigError("sft.path is empty: give a jsonl, json or parquet file of conversations.")
    if not config.sft.steps and not config.sft.epochs:
        raise ConfigError("sft.steps and sft.epochs are both 0, so there is nothing to do: set one of them.")


def evaluation_only(config: Config) -> None:
    """What scripts/evaluate.py needs beyond `validate`."""
    _check_name(config, "env.name", ENVS)
    if not config.data.eval_path:
        raise ConfigError("data.eval_path is empty, so there is nothing to evaluate on: give held-out prompts.")


def _value(config: Config, field: str):
    section, name = field.split(".")
    return getattr(getattr(config, section), name)


def _check_name(config: Config, field: str, table) -> None:
    value = _value(config, field)
    if value not in table:
        near = difflib.get_close_matches(value, table, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{field} = {value!r} is not known.{hint} Known: {', '.join(table)}.")
