"""Supervised fine-tuning: the mean negative log-likelihood of the trained tokens, through the RL update
itself."""
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.data.iterator import Order
from jaxrl_moe.data.sft import Conversation
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.batch import MicroBatch, micro_batches, sample_weights
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.samples import Sample, from_conversations, trainable
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.phases import longest_conversation, total_steps
from jaxrl_moe.rl.metrics import Metrics
from jaxrl_moe.runs.checkpoints.meta import Progress
from jaxrl_moe.runs.evaluation import Evaluation
from jaxrl_moe.runs.flops import FlopMeter
from jaxrl_moe.runs.metrics import router_metrics
from jaxrl_moe.runs.monitor import peak_bytes, refuse_non_finite
from jaxrl_moe.runs.run import Run, open_run
from jaxrl_moe.runs.stopping import Ending


def sft(config: Config, learner: Learner, conversations: Sequence[Conversation],
        decode: Callable[[Sequence[int]], str], evaluation: Callable[[], Evaluation] | None = None) -> Ending:
    """Trains on conversations, from the newest checkpoint in run_dir/sft if there is one.

    Args:
      config: from `sft_config`.
      learner: of the policy.
      conversations: ids and loss masks.
      decode: ids to text, for the trajectories of evaluations.
      evaluation: evaluates the present weights, or None.

    Returns:
      How it ended; it is saved in any case. The metrics of a step are fetched after the next one has been
      dispatched.
    """
    samples = trainable(from_conversations(conversations))
    objective = make_policy_objective(config.algorithm, moe=config.moe)
    order = Order("conversations", [sample.ids_T.tobytes() + sample.mask_T.tobytes() for sample in samples],
                  config.seed)
    waiting = None
    meter = FlopMeter(learner)
    ends = functools.partial(last_step, config, conversations)
    with open_run(config, pathlib.Path(config.run_dir) / "sft", "SFT", learner, ends,
                  lambda progress: order.drawn(progress.data), decode) as run:
        if not run.progress.step and evaluation and config.eval.at_start:
            run.log(0, evaluated(run, evaluation()))
        while not reached(run, config) and run.goes_on():
            step = run.progress.step
            run.profiler.before(step)
            row = rows_done(run.progress)
            packed = batch(samples, config, row, learner.shards)
            update = learner.update(packed, objective, count_load=config.moe.aux_loss_coef > 0)
            if waiting:  # the device is at work on this step: time to read the numbers of the one before
                run.log(*fetch(run, meter, *waiting))
            position = order.position(row + config.sft.sequences_per_step)
            run.progress = dataclasses.replace(run.progress, step=step + 1, data=position)
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
                    run.save(learner, score)
        if run.stop.terminated():  # in the last step, too, as RL may come next
            return Ending.STOPPED
        return Ending.DONE if reached(run, config) else run.ending


def rows_done(progress: Progress) -> int:
    """Conversations that were trained on, epoch after epoch."""
    return progress.data["drawn"] if progress.data else 0


def last_step(config: Config, conversations: Sequence[Conversation], progress: Progress) -> int:
    """The step that the phase ends with, from where it stands."""
    count = sum(bool(np.any(conversation.loss_mask[1:])) for conversation in conversations)
    return total_steps(config, count, progress.step, rows_done(progress))


def batch(samples: Sequence[Sample], config: Config, row: int,
          shards: tuple[int, int] = (1, 1)) -> list[MicroBatch]:
    """The micro-batches of the step that begins with this row of all epochs' rows; which conversations it
    takes follows from that and the seed alone."""
    count = len(samples)
    chosen = []
    for position in range(row, row + config.sft.sequences_per_step):
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
