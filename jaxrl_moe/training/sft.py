"""Supervised fine-tuning: the mean negative log-likelihood of the trained tokens, through the RL update
itself."""
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.data.sft import Conversation
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.batch import MicroBatch, micro_batches, sample_weights
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.samples import Sample, from_conversations, trainable
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.phases import longest_conversation, total_steps
from jaxrl_moe.rl.metrics import Metrics
from jaxrl_moe.runs.evaluation import Evaluation
from jaxrl_moe.runs.flops import FlopMeter
from jaxrl_moe.runs.metrics import router_metrics
from jaxrl_moe.runs.monitor import peak_bytes, refuse_non_finite
from jaxrl_moe.runs.run import Run, identity, open_run


def sft(config: Config, learner: Learner, conversations: Sequence[Conversation],
        decode: Callable[[Sequence[int]], str], evaluation: Callable[[], Evaluation] | None = None) -> bool:
    """Trains on conversations, from the newest checkpoint in run_dir/sft if there is one.

    Args:
      config: from `sft_config`.
      learner: of the policy.
      conversations: ids and loss masks.
      decode: ids to text, for the trajectories of evaluations.
      evaluation: evaluates the present weights, or None.

    Returns:
      True when it is done, False if SIGTERM ended it early; it is saved either way. The metrics of a step are
        fetched
      after the next one has been dispatched.
    """
    samples = trainable(from_conversations(conversations))
    objective = make_policy_objective(config.algorithm, moe=config.moe)
    last = total_steps(config, len(samples))
    waiting = None
    meter = FlopMeter(learner)
    with open_run(config,
                  pathlib.Path(config.run_dir) / "sft", "SFT", last, identity(learner, config),
                  decode) as run:
        if run.checkpoints.steps():
            state, run.progress = run.checkpoints.restore(learner.stored())
            learner.take_over(state)
            run.console.say(f"Going on from the SFT checkpoint of step {run.progress.step}.")
        elif evaluation and config.eval.at_start:
            run.log(0, evaluated(run, evaluation()))
        while not run.finished and not reached(run, config):
            step = run.progress.step
            run.profiler.before(step)
            packed = batch(samples, config, step, learner.shards)
            update = learner.update(packed, objective, count_load=config.moe.aux_loss_coef > 0)
            if waiting:  # the device is at work on this step: time to read the numbers of the one before
                run.log(*fetch(run, meter, *waiting))
            run.progress = dataclasses.replace(run.progress, step=step + 1)
            waiting = (step + 1, update, packed)
            save = run.due(config.checkpoint.every)
            if save or run.stop or (evaluation and run.due(config.sft.eval_every)):
                _, row = fetch(run, meter, *waiting)
                waiting = None
                score = None
                if evaluation and run.due(config.sft.eval_every):
                    result = evaluation()
                    row = row | evaluated(run, result)
                    score = result.score
                run.log(step + 1, row)
                if save or reached(run, config) or run.stop:  # SIGTERM may have come during the evaluation
                    run.checkpoints.save(learner.stored(), run.progress, score)
        return run.progress.step >= run.last_step or reached(run, config)


def batch(samples: Sequence[Sample], config: Config, step: int,
          shards: tuple[int, int] = (1, 1)) -> list[MicroBatch]:
    """The micro-batches of a step; which conversations it takes follows from the seed and the step alone."""
    count = len(samples)
    size = config.sft.sequences_per_step
    chosen = []
    for position in range(step * size, (step + 1) * size):
        epoch, turn = divmod(position, count)
        chosen.append(samples[_order(config.seed, epoch, count)[turn]])
    weights_N = sample_weights(chosen, config.algorithm.aggregation)
    packs = micro_batches(chosen, config.train.tokens_per_micro_batch, config.train.pack, weights_N,
                          longest=longest_conversation(config), shards=shards)
    return [packed.batch for packed in packs]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def fetch(run: Run, meter: FlopMeter, step: int, update: Metrics,
          packed: list[MicroBatch]) -> tuple[int, dict[str, float]]:
    """Waits for a step's numbers; refuses what is not finite."""
    values = hosts.fetch(update)
    row = {"sft/loss": float(values["loss"]), "policy/grad_norm": float(values["policy/grad_norm"]),
           "policy/lr": float(values["policy/lr"])}
    refuse_non_finite(step, row, packed, run.folder)
    if "load" in values:
        run.record_load(step, values["load"])
        row |= router_metrics(values["load"], values["probability"])
    tokens = float(packed[0].num_tokens)
    seconds = run.lap()
    return step, row | {"sft/tokens": tokens, "time/step_s": seconds, "perf/peak_bytes": peak_bytes()} | (
        meter.metrics(packed, seconds) | run.compilations.metrics())


def evaluated(run: Run, result: Evaluation) -> dict[str, float]:
    """Writes an evaluation's rollouts and returns its metrics."""
    run.record_evaluation(result)
    return result.metrics | {"time/evaluate_s": run.lap()}


def reached(run: Run, config: Config) -> bool:
    """Whether an evaluation has met sft.stop_at_accuracy."""
    best = run.progress.best_score
    goal = config.sft.stop_at_accuracy
    return goal > 0 and best is not None and best >= goal
