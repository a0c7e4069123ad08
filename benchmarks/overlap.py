"""Seconds of a GRPO step, one thing at a time against rollouts that run ahead, for rewards that take longer
and longer.

A reward here sleeps, as one that asks a judge or runs a program elsewhere does: its batch takes the given
seconds where one thread grades, spread evenly over the completions. Completions end by chance, after 1 to all
of their tokens. One policy and optimiser serve all rows of the table, and one engine on the trainer's device
or one on a device of its own, so that nothing compiles while it is timed; weights change from row to row,
shapes do not.
"""
import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.table import rows
from jaxrl_moe.config import (
    AlgorithmSection,
    Config,
    DataSection,
    LoraSection,
    OptimizerSection,
    RolloutSection,
    TrainSection,
)
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.learning.update import update
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.runs.metrics import Stopwatch, rollout_metrics
from jaxrl_moe.training.source import open_source
from jaxrl_moe.types import Action, Prompt, SamplingParams, Step

PROMPTS = 8
GROUP = 4
PROMPT = 16
NEW = 48
VOCAB = 512
SLOTS = 16
LATENCIES = (0.0, 0.5, 2.0)
WAYS = {"in turn": (False, {}),
        "staleness 1": (False, {"max_staleness": 1, "graders": 1}),
        "staleness 2": (False, {"max_staleness": 2, "graders": 1}),
        "staleness 2, 8 graders": (False, {"max_staleness": 2}),
        "staleness 1, own device": (True, {"max_staleness": 1, "graders": 1})}
WARM = 2  # steps before the clock starts, when what runs ahead has filled up
STEPS = 4  # timed ones


def table() -> str:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own, which sees the flag
        lines = pool.apply(measured)
    return rows(["reward s a batch", "rollouts", "step s", "to in turn", "of it waiting", "mean staleness"],
                lines) + (f"\nMedians of {STEPS} steps after {WARM}: {PROMPTS} prompts x {GROUP} completions "
                          f"of at most {NEW} tokens, LoRA r8 on a Qwen3-MoE of 4 layers and 8 experts. Where "
                          "engine and trainer share a device, drawing and updating take turns there in any "
                          "case: what runs ahead is the reward, and drawing while it is waited for. With a "
                          "device of its own the engine draws during the update; here both devices are "
                          "virtual and share the machine's cores. Eight graders sleep side by side, as calls "
                          "to a judge elsewhere would.\n")


def measured() -> list[tuple[str, ...]]:
    config, learner, engines, prompts = parts()
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    for own in engines:  # compiles the update
        loop(config, learner, objective, engines[own], prompts, 0.0, {}, 1)
    lines = []
    for seconds in LATENCIES:
        results = {
            name: loop(config, learner, objective, engines[own], prompts, seconds, settings, WARM + STEPS)
            for name, (own, settings) in WAYS.items()
        }
        for name, (step, wait, age) in results.items():
            lines.append((f"{seconds:g}", name, f"{step:.2f}", f"**{step / results['in turn'][0]:.2f}**",
                          f"{wait:.2f}", f"{age:.2f}"))
    return lines


def parts() -> tuple[Config, Learner, dict[bool, JaxEngine], list[Prompt]]:
    """(settings, learner, {has it a device of its own?: engine}, prompts), all shapes compiled but the
    update's."""
    config = dataclasses.replace(
        Config(), lora=LoraSection(rank=8), optimizer=OptimizerSection(learning_rate=1e-5),
        rollout=RolloutSection(prompts_per_step=PROMPTS, group_size=GROUP, max_tokens=NEW, slots=SLOTS,
                               page_size=64, decode_steps=8),
        algorithm=AlgorithmSection(kl_coef=0.0,
                                   corrections=("tis",)), data=DataSection(max_prompt_tokens=PROMPT),
        train=TrainSection(steps=10**6, tokens_per_micro_batch=PROMPTS * GROUP * (PROMPT + NEW), pack=False))
    model = Transformer(
        ModelConfig(family="qwen3_moe", vocab_size=VOCAB, hidden_size=128, num_layers=4, num_heads=4,
                    num_kv_heads=2, head_dim=32, intermediate_size=256, sparse_layers=(True,) * 4,
                    windows=(0,) * 4, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=128),
        lora=LoraConfig(8, 16.0), rngs=nnx.Rngs(0))
    learner = build_learner(model, LearnerSettings(config.optimizer, 10**6))
    engines = {}
    for own in (False, True):
        arrangement = make_placement({}, jax.devices()[1:]) if own else None
        engines[own] = engine = JaxEngine(learner.model(), config.rollout, max_prompt_tokens=PROMPT + NEW,
                                          placement=arrangement, eos_ids=range(VOCAB // 32))
        engine.publish(learner.params(), 0)
        # for prompts that long, as what goes on under the next weights is prefilled with its tokens
        engine.warmup()
        engine.release()
    rng = np.random.default_rng(0)
    return config, learner, engines, [
        Prompt(rng.integers(20, VOCAB, PROMPT).astype(np.int32), {}, number) for number in range(64)
    ]


class SlowReward(SingleTurnTask):
    """Grades by the share of odd tokens, and takes its time."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def check_row(self, row: Mapping[str, Any], index: int) -> None:
        """Every row will do."""

    def grade(self, row: Mapping[str, Any], action: Action) -> Step:
        time.sleep(self.seconds)
        return Step(sum(int(token) % 2 for token in action.text.split()) / action.num_tokens)


def loop(config: Config, learner: Learner, objective: Any, engine: JaxEngine, prompts: Sequence[Prompt],
         seconds: float, settings: Mapping[str, Any], steps: int) -> tuple[float, float, float]:
    """The loop of training/train.py: (median seconds of a step, and of its wait for the batch; mean
    staleness) after the first ones."""
    config = dataclasses.replace(config, rollout=dataclasses.replace(config.rollout, **settings))
    draws = Draws(PromptIterator(prompts, seed=0), prompts)
    params = SamplingParams(max_tokens=NEW, n=GROUP)
    task = SlowReward(seconds / (PROMPTS * GROUP))
    times = []
    episodes = Episodes(task, lambda ids: " ".join(map(str, ids)), graders=config.rollout.graders)
    with open_source(config, engine, episodes, draws, params) as source:
        source.publish(learner.params(), 0)
        for step in range(steps):
            start = time.perf_counter()
            batch = source.next(Stopwatch())
            wait = time.perf_counter() - start
            for metrics, _ in update(prepare(batch.used, learner, config), learner, objective, config, step):
                hosts.fetch(metrics)
            source.publish(learner.params(), step + 1)
            age = rollout_metrics(batch.drawn, step)["rollout/staleness_mean"]
            times.append((time.perf_counter() - start, wait, age))
    step_s, wait_s, ages = zip(*times[min(WARM, steps - 1):])
    return statistics.median(step_s), statistics.median(wait_s), statistics.mean(ages)
