"""What the phases of a run are, as far as the configuration alone says it; each rule stands here once."""
import dataclasses
import math

from jaxrl_moe.config import AlgorithmSection, Config, RolloutSection
from jaxrl_moe.types import SamplingParams

NLL = AlgorithmSection(loss="reinforce", aggregation="token-mean", kl_coef=0.0)  # advantage 1: l = -log p
LONGEST = "data.max_prompt_tokens + rollout.max_tokens"  # longest_sequence, as messages say it


def has_warm_up(config: Config) -> bool:
    """Whether the recipe has an SFT phase."""
    return bool(config.sft.source and (config.sft.steps or config.sft.epochs))


def sft_config(config: Config) -> Config:
    """The configuration that the SFT phase is built from: its own learning rate, all weights if sft.full,
    drawing in process."""
    return dataclasses.replace(
        config, algorithm=NLL,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=config.sft.learning_rate),
        lora=dataclasses.replace(config.lora, rank=0) if config.sft.full else config.lora,
        rollout=dataclasses.replace(config.rollout, backend="jax"))


def total_steps(config: Config, conversations: int, steps: int = 0, rows: int = 0) -> int:
    """Optimiser steps of the phase: sft.steps, or enough for sft.epochs passes, where so many steps have
    trained on so many rows already."""
    left = max(0, config.sft.epochs * conversations - rows)
    return config.sft.steps or steps + math.ceil(left / config.sft.sequences_per_step)


def longest_conversation(config: Config) -> int:
    """Tokens of the longest conversation that a micro-batch can hold."""
    return min(config.sft.max_tokens, config.train.tokens_per_micro_batch)


def longest_sequence(rollout: RolloutSection, max_prompt_tokens: int) -> int:
    """Tokens of the longest sequence that a rollout can come to: the longest prompt, and the longest
    completion."""
    return max_prompt_tokens + rollout.max_tokens


def longest_rollout(config: Config) -> int:
    """Tokens of the longest sequence that a rollout of this run can come to."""
    return longest_sequence(config.rollout, longest_prompt(config))


def longest_named(config: Config) -> str:
    """longest_rollout, as messages say it."""
    several = config.episodes.max_tokens > config.rollout.max_tokens
    return "data.max_prompt_tokens + episodes.max_tokens" if several else LONGEST


def longest_prompt(config: Config) -> int:
    """Tokens of the longest sequence that a turn of this run can go on from."""
    return config.data.max_prompt_tokens + max(0, config.episodes.max_tokens - config.rollout.max_tokens)


def longest_drawn(config: Config) -> int:
    """Tokens of the longest sequence of a rollout that a micro-batch can hold."""
    return min(longest_rollout(config), config.train.tokens_per_micro_batch)


def sampling(config: Config) -> SamplingParams:
    """How the completions of RL are drawn."""
    rollout = config.rollout
    return SamplingParams(
        rollout.max_tokens, rollout.temperature, rollout.top_p, rollout.top_k, rollout.min_p,
        stop_strings=rollout.stop_strings,
        n=rollout.group_size, return_routed_experts=config.moe.replay == "r3")
