"""Stage d: the 30B shape with random weights on one card: LoRA training, decoding, and memory against the
plan's word.

One process trains and draws, as a run does: the engine draws from the trainer's own arrays, with the
optimiser's state beside them. Peaks are of the process so far, so each is compared with the largest that the
plan predicts up to there.
"""
import dataclasses
import gc
import json
import subprocess
import sys
import time

import jax
import numpy as np

from benchmarks.gpu.record import ABSENT, FAILED, MEASURED, PASSED, Recorder, Settings, read
from benchmarks.gpu.whole import decoding, random_model
from benchmarks.gpu.whole.shape import ALPHA, RANK, model_config, scaled
from benchmarks.plan import recipe
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.chips import Chip, find_chip
from jaxrl_moe.learning.batch import MicroBatch, micro_batches, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.samples import from_conversations
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.planning import target
from jaxrl_moe.runs.flops import FlopMeter

GIB = 2**30
STEPS = 5  # timed, of training
PLAN_S = 120.0  # seconds to wait for the plan at the end
# sequences decoded, by whether it is a rehearsal; the number that matters most comes first
BATCHES = {False: (128, 32, 256, 64), True: (4,)}
NEAR = 0.15  # how far a measured peak may lie above the predicted one


def run(recorder: Recorder, settings: Settings) -> None:
    config = run_config(settings)
    planning = start_plan(settings)
    try:
        learner = recorder.attempt("making the model", lambda: make_learner(config, settings))
        if learner is not None:
            train(recorder, learner, config, settings)
            recorder.attempt("decoding", lambda: draw(recorder, learner, config, settings))
        judge(recorder, planning)
    finally:
        planning.kill()


def run_config(settings: Settings) -> Config:
    """The recipe of the 30B on one card, with rows of 2,048 tokens and a KV pool for the most sequences that
    are decoded, at 1k each."""
    length = decoding.LENGTH[settings.rehearse]
    slots = max(BATCHES[settings.rehearse])
    return recipe("scale/qwen3_30b_a3b_grpo_h200", {}, {
        "algorithm.kl_coef": 0.0,
        "data.max_prompt_tokens": length,
        "rollout.max_tokens": length,
        "rollout.slots": slots,
        "rollout.kv_tokens": (slots + 1) * length,
        "train.tokens_per_micro_batch": 8 * 2 * length,
        "lora.rank": RANK,
        "lora.alpha": ALPHA
    })


def make_learner(config: Config, settings: Settings) -> Learner:
    start = time.perf_counter()
    model = random_model.make(model_config(settings), LoraConfig(config.lora.rank, config.lora.alpha),
                              config.model)
    learner = build_learner(model, LearnerSettings(config.optimizer, 100, remat=config.train.remat))
    jax.block_until_ready(learner.state.trainable)
    print(f"the model was made in {time.perf_counter() - start:.1f} s")
    return learner


def train(recorder: Recorder, learner: Learner, config: Config, settings: Settings) -> None:
    batch = micro_batch(config, learner.config.vocab_size)
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    rows, length = batch.tokens_BT.shape
    name = (f"LoRA step on all linear layers, {learner.config.num_layers} layers, {rows} x {length}, remat "
            f"{config.train.remat}")
    times = recorder.attempt(name,
                             lambda: [_step(learner, batch, objective, config) for _ in range(1 + STEPS)])
    if times is None:
        return
    seconds = float(np.median(times[1:]))
    rate = rows * length / seconds
    recorder.add(name, MEASURED,
                 **{"tokens/s": rate, **scaled(settings, rate), "s": seconds, "first s": times[0]},
                 **FlopMeter(learner).metrics([batch], seconds))
    report_peak(recorder, "training")


def micro_batch(config: Config, vocabulary: int) -> MicroBatch:
    """A full one of random tokens, of which the completions are trained."""
    prompt = config.data.max_prompt_tokens
    drawn = config.rollout.max_tokens
    budget = config.train.tokens_per_micro_batch
    rng = np.random.default_rng(0)
    mask = np.r_[np.zeros(prompt), np.ones(drawn)]
    rows = [(rng.integers(0, vocabulary, prompt + drawn), mask) for _ in range(budget // (prompt + drawn))]
    samples = [
        dataclasses.replace(one, sampler_logprobs_T=-np.ones(prompt + drawn, np.float32))
        for one in from_conversations(rows)
    ]
    packed, = micro_batches(samples, budget, weights_N=sample_weights(samples, "token-mean"),
                            longest=prompt + drawn)
    return packed.batch


def _step(learner: Learner, batch: MicroBatch, objective, config: Config) -> float:
    start = time.perf_counter()
    jax.block_until_ready(learner.update([batch], objective, entropy=config.logging.entropy))
    return time.perf_counter() - start


def draw(recorder: Recorder, learner: Learner, config: Config, settings: Settings) -> None:
    for slots in BATCHES[settings.rehearse]:
        name = (f"decode with adapters, {learner.config.num_layers} layers, B = {slots}, up to "
                f"{decoding.LENGTH[settings.rehearse]} tokens")
        found = recorder.attempt(name,
                                 lambda slots=slots: decoding.rate(learner, config, slots, settings.rehearse))
        gc.collect()  # an engine has copies of the adapters, and is part of cycles
        if found is not None:
            recorder.add(name, MEASURED,
                         **{"tokens/s": found.tokens_per_s,
                            **scaled(settings, found.tokens_per_s),
                            "chunks": found.chunks,
                            "prefill and first compilation s": found.first_s})
    report_peak(recorder, "rollout")


def report_peak(recorder: Recorder, phase: str) -> None:
    stats = jax.devices()[0].memory_stats()
    if not stats or "peak_bytes_in_use" not in stats:
        recorder.add(f"peak memory, {phase}", ABSENT, "this device keeps no count of its memory")
        return
    recorder.add(f"peak memory, {phase}", MEASURED,
                 **{"GiB": stats["peak_bytes_in_use"] / GIB, "limit GiB": stats["bytes_limit"] / GIB})


def start_plan(settings: Settings) -> subprocess.Popen:
    """The plan of the same configuration, in a process of its own beside the work on the card; it compiles on
    the host, for the card where the plugin is there, as it is on a machine with a GPU."""
    variables = target.environment(None if settings.rehearse else _chip(settings), 1)
    # a program from the cache tells nothing of its buffers
    variables |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu.whole.stage",
         json.dumps(dataclasses.asdict(settings))], env=variables, stdout=subprocess.PIPE, text=True)


def predicted(settings: Settings) -> dict[str, float]:
    """GiB at the peaks of {phase} up to its end, as planned."""
    from jaxrl_moe.planning.plan import make_plan
    chip = _chip(settings)
    there = not settings.rehearse and target.usable(chip)
    plan = make_plan(run_config(settings), model_config(settings), chip.client_memory(),
                     target.devices(chip) if there else None, platform="cpu" if settings.rehearse else "gpu")
    update = plan.update_peak(True) / GIB
    rollout = plan.rollout_peak(True) / GIB
    return {"training": update, "rollout": max(update, rollout)}


def _chip(settings: Settings) -> Chip:
    return find_chip(settings.card.upper())


def judge(recorder: Recorder, planning: subprocess.Popen) -> None:
    """Measured peaks beside those predicted: what was promised to fit must not have taken a good deal
    more."""
    try:
        output = planning.communicate(timeout=PLAN_S)[0]
        plan = json.loads(output.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        recorder.add("plan of the same configuration", FAILED,
                     f"it gave nothing within {PLAN_S:.0f} s: {type(error).__name__}")
        return
    measured = {
        row["name"].removeprefix("peak memory, "): row["values"] for row in read(recorder.path)
        if row["name"].startswith("peak ")
    }
    for phase, size in plan.items():
        name = f"peak memory against the plan, {phase}"
        found = measured.get(phase, {}).get("GiB")
        if found is None:
            recorder.add(name, MEASURED, "nothing was measured to stand against it",
                         **{"predicted GiB": size})
            continue
        recorder.add(name, PASSED if found <= (1 + NEAR) * size else FAILED,
                     **{"predicted GiB": size, "measured GiB": found, "measured / predicted": found / size})


if __name__ == "__main__":
    print(json.dumps(predicted(Settings(**json.loads(sys.argv[1])))))
