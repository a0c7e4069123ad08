"""Seconds of a GRPO step, one at a time against rollouts that run ahead, for rewards that take longer and longer.

A reward here sleeps, as one that asks a judge or runs a program elsewhere does: its batch takes the given seconds where one thread
grades, spread evenly over the completions. Completions end by chance, after 1 to all of their tokens. One policy, optimiser and engine on
one device serve all rows of the table, so that nothing compiles while it is timed; weights change from row to row, shapes do not.
"""
import contextlib
import dataclasses
import time

import numpy as np
from flax import nnx

from benchmarks.table import rows
from jaxrl_moe.config import AlgorithmSection, Config, DataSection, LoraSection, OptimizerSection, RolloutSection, TrainSection
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.distributed import hosts
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.engine import JaxEngine
from jaxrl_moe.training.metrics import Stopwatch, rollout_metrics
from jaxrl_moe.training.objective import make_policy_objective
from jaxrl_moe.training.prepare import prepare
from jaxrl_moe.training.source import open_source
from jaxrl_moe.training.step import Learner
from jaxrl_moe.training.update import update
from jaxrl_moe.types import Grade, Prompt, SamplingParams

PROMPTS, GROUP, PROMPT, NEW, VOCAB = 8, 4, 16, 64, 512
LATENCIES = (0.0, 0.5, 2.0)
WAYS = {"in turn": {}, "staleness 1": {"max_staleness": 1, "graders": 1}, "staleness 2": {"max_staleness": 2, "graders": 1},
        "staleness 2, 8 graders": {"max_staleness": 2}}
WARM, STEPS = 3, 8  # steps before the clock starts, when what runs ahead has filled up; timed ones


class SlowReward:
    """Grades by the share of odd tokens, and takes its time."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def grade(self, row, completion, num_tokens, truncated):
        time.sleep(self.seconds)
        return Grade(float(np.mean([int(one) % 2 for one in completion.split()])), {})


def parts():
    """(settings, learner, engine, prompts), all shapes compiled but the update's."""
    config = dataclasses.replace(
        Config(), lora=LoraSection(rank=8), optimizer=OptimizerSection(learning_rate=1e-5),
        rollout=RolloutSection(prompts_per_step=PROMPTS, group_size=GROUP, max_tokens=NEW, slots=PROMPTS * GROUP, page_size=16,
                               decode_steps=8),
        algorithm=AlgorithmSection(kl_coef=0.0, corrections=("tis",)), data=DataSection(max_prompt_tokens=PROMPT),
        train=TrainSection(steps=10**6, tokens_per_micro_batch=PROMPTS * GROUP * (PROMPT + NEW), pack=False))
    model = Transformer(ModelConfig(
        family="qwen3_moe", vocab_size=VOCAB, hidden_size=128, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=32,
        intermediate_size=256, sparse_layers=(True,) * 4, windows=(0,) * 4, num_experts=8, num_experts_per_tok=2,
        moe_intermediate_size=128), lora=LoraConfig(8, 16.0), rngs=nnx.Rngs(0))
    learner = Learner(model, config.optimizer, 10**6)
    engine = JaxEngine(learner.model(), config.rollout, max_prompt_tokens=PROMPT, eos_ids=range(VOCAB // 32))
    engine.publish(learner.params(), 0)
    engine.warmup()
    engine.release()
    rng = np.random.default_rng(0)
    return config, learner, engine, [Prompt(rng.integers(20, VOCAB, PROMPT).astype(np.int32), {}, number) for number in range(64)]


def measure(config: Config, learner: Learner, engine: JaxEngine, prompts, seconds: float, steps: int = STEPS) -> tuple[float, float, float]:
    """(median seconds of a step, mean staleness, mean seconds that a step waited for its batch) of the loop of training/train.py."""
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    draws, params = Draws(PromptIterator(prompts, seed=0), prompts), SamplingParams(max_tokens=NEW, n=GROUP)
    task, laps, ages, waits = SlowReward(seconds / (PROMPTS * GROUP)), [], [], []
    with open_source(config, engine, task, draws, params, lambda ids: " ".join(map(str, ids))) as source:
        source.publish(learner.params(), 0)
        for step in range(WARM + steps):
            start, watch = time.perf_counter(), Stopwatch()
            batch = source.next(watch)
            waits.append(time.perf_counter() - start)
            for metrics, _ in update(prepare(batch.used, learner, config), learner, objective, config, step):
                hosts.fetch(metrics)
            source.publish(learner.params(), step + 1)
            laps.append(time.perf_counter() - start)
            ages.append(rollout_metrics(batch.drawn, step)["rollout/staleness_mean"])
    return float(np.median(laps[WARM:])), float(np.mean(ages[WARM:])), float(np.mean(waits[WARM:]))


def table() -> str:
    config, learner, engine, prompts = parts()
    lines = []
    with contextlib.closing(engine):
        for latency in LATENCIES:
            base = None
            for name, settings in WAYS.items():
                now = dataclasses.replace(config, rollout=dataclasses.replace(config.rollout, **settings))
                if base is None and latency == LATENCIES[0]:
                    measure(now, learner, engine, prompts, 0.0, steps=1)  # compiles the update
                step, age, wait = measure(now, learner, engine, prompts, latency)
                base = base or step
                lines.append((f"{latency:g}", name, f"{step:.2f}", f"**{step / base:.2f}**", f"{wait:.2f}", f"{age:.2f}"))
    header = ["reward s a batch", "rollouts", "step s", "to in turn", "of it waiting", "mean staleness"]
    return rows(header, lines) + (
        f"\nMedians of {STEPS} steps after {WARM}: {PROMPTS} prompts x {GROUP} completions of at most {NEW} tokens, LoRA r8 on a "
        "Qwen3-MoE of 4 layers and 8 experts, engine and trainer on one device, so drawing and updating take turns there in any case: "
        "what runs ahead is the reward, and drawing while it is waited for. Eight graders sleep side by side, as calls to a judge "
        "elsewhere would.\n")
