"""The RL loop: prompts -> rollout -> reward -> advantage -> batch -> update -> publish -> evaluate -> save.

By default it is GRPO (DeepSeekMath, arXiv 2402.03300) but for what follows; in brackets, the settings that
change it.

  - One update a batch (algorithm.epochs, minibatches): the importance ratio is 1, no clip acts, and the
    update's own log-probs are the old ones. With more updates, or dropout, the trainer computes the old ones
    before the first.
  - The ratio runs between two values of the trainer, not from what the engine said when it drew; how far
    these are apart is logged as mismatch/*, corrected by algorithm.corrections, or taken into the ratio by
    algorithm.bypass.
  - Advantages are (R - mean) / (std + 1e-6) with the sample's std (ddof 1), exactly 0 in a group of equal
    rewards. Such a group still counts in the loss's denominators (algorithm.drop_constant_groups,
    rollout.dynamic_sampling). Without the std the row is another, dr_grpo, and without the mean over a
    sequence's tokens another aggregation: neither is a switch of grpo.
  - The loss is a mean over sequences of means over tokens (algorithm.aggregation), as in the paper, but over
    all sequences of an optimiser minibatch: its split into micro-batches, packing and the mesh change
    nothing. Minibatches cut through groups.
  - The KL to the reference is the paper's k3, in the loss, but at most 10 a token, of log-ratios within +-20,
    and weighs 0.001, not 0.04 (algorithm.kl_*, in the reward or led to a target if asked). The reference is
    the policy without its adapters, or the weights that the run started from; it is never renewed.
  - Log-probs are those of softmax(logits / temperature) over the whole vocabulary, whatever top-p, top-k or
    min-p left out.
  - Completions that hit the token limit are trained on as they are (algorithm.truncated, overlong_*).
  - Rollouts may run ahead of the weights (rollout.max_staleness); by default they do not.
  - Rewards come from a task's grader, never from a reward model that is trained meanwhile.
"""
import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence

from jaxrl_moe.config import Config
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.learning.credit.kl_coefficient import KLCoefficient
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.learning.replay import replay_metrics
from jaxrl_moe.learning.samples import Sample, by_rollout
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.learning.update import update
from jaxrl_moe.phases import sampling
from jaxrl_moe.protocols import Engine, Task
from jaxrl_moe.rollout.agents.sessions import AgentSessions, StoppedError
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.rollout.timeouts import NAME, Timeouts
from jaxrl_moe.runs.flops import FlopMeter
from jaxrl_moe.runs.metrics import Stopwatch, rollout_metrics
from jaxrl_moe.runs.run import open_run
from jaxrl_moe.runs.stopping import Ending
from jaxrl_moe.training.assembly import make_episodes
from jaxrl_moe.training.loop import (
    TrainingLoop,
    Updates,
    checkpoint_if_due,
    evaluate_at_start,
    evaluate_if_due,
    fetch,
    log,
    saving_what_was_done,
    truncation_metrics,
    warn_of_truncation,
)
from jaxrl_moe.training.selection import Selection, nothing_to_learn, selection_metrics
from jaxrl_moe.training.source import open_source
from jaxrl_moe.types import Prompt


def train(config: Config, learner: Learner, engine: Engine, task: Task, tokenizer: Tokenizer,
          prompts: Sequence[Prompt], eval_prompts: Sequence[Prompt],
          sessions: AgentSessions | None = None) -> Ending:
    """Trains for train.steps steps, from the newest checkpoint in run_dir if there is one.

    Args:
      config: resolved and checked.
      learner: holds the policy, its optimiser and its update.
      engine: draws completions; gets the weights after every update.
      task: grades what is drawn.
      tokenizer: the model's.
      prompts, eval_prompts: tokenised; without eval_prompts nothing is evaluated.
      sessions: of the agents that play the episodes, if agents do.

    Returns:
      How it ended; it is saved in any case.

    Raises:
      UserError: see the parts; a loss or gradient that is not finite stops the run (NonFiniteError).
    """
    folder = pathlib.Path(config.run_dir)
    episodes = make_episodes(config, task, tokenizer, kept_timeouts(config, task, folder), sessions)
    order = PromptIterator(prompts, seed=config.seed, shuffle=config.data.shuffle, weights=config.data.shares)
    draws = Draws(order, prompts)
    params = sampling(config)
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    with (open_run(config, folder, "RL", learner, lambda progress: config.train.steps,
                   lambda progress: draws.restore(dataclasses.asdict(progress)), tokenizer.decode) as run,
          open_source(config, engine, episodes, draws, params) as source):
        loop = TrainingLoop(config, learner, engine, episodes, eval_prompts, params, objective,
                            FlopMeter(learner), run, source)
        if sessions is not None:
            sessions.stopping = run.stop.at_once
        source.publish(learner.params(), run.progress.step)
        warn_of_truncation(loop)
        evaluate_at_start(loop)
        with contextlib.suppress(StoppedError):  # the steps before are saved
            while run.goes_on():
                step(loop)
        return run.ending


def kept_timeouts(config: Config, task: Task, folder: pathlib.Path) -> Timeouts | None:
    """Those that a run which is resumed to the same bits must see again."""
    repeats = task.deterministic and not task.max_turns == 1 and config.rollout.max_staleness == 0
    return Timeouts(folder / NAME) if repeats and hosts.leads() else None


def step(loop: TrainingLoop) -> None:
    """One step of the algorithm; Progress.step counts those that are done."""
    number = loop.run.progress.step
    watch = Stopwatch()
    kl = KLCoefficient(loop.config.algorithm, loop.run.progress.kl_coef)
    loop.run.profiler.before(number)
    before = loop.engine.stats()

    batch = draw(loop, watch)
    samples = to_samples(loop, watch, batch, kl)
    updates, metrics = learn(loop, watch, batch, samples, kl)
    metrics |= publish(loop, watch)
    metrics |= rollout_metrics(batch.drawn, number, batch.aborted * loop.sampling.n)
    metrics |= selection_metrics(batch, loop.config) | replay_metrics(samples)
    metrics |= truncation_metrics(loop, before)
    evaluation, improved = evaluate_if_due(loop, watch)
    metrics |= evaluation.metrics if evaluation else {}
    log(loop, watch, batch, updates, metrics)
    checkpoint_if_due(loop, watch, evaluation, improved)


def draw(loop: TrainingLoop, watch: Stopwatch) -> Selection:
    """Prompts -> rollout -> reward: the groups of the step, graded and chosen from."""
    with saving_what_was_done(loop):
        batch = loop.source.next(watch)
    if loop.config.rollout.dynamic_sampling and not batch.used:
        with saving_what_was_done(loop):
            raise nothing_to_learn(batch, loop.config, loop.run.progress.step + 1)
    return batch


def to_samples(loop: TrainingLoop, watch: Stopwatch, batch: Selection, kl: KLCoefficient) -> list[Sample]:
    """Reward -> advantage -> samples, with what stays fixed during the updates."""
    with watch("old_logprobs"), saving_what_was_done(loop), alone():
        return prepare(batch.used, loop.learner, loop.config, kl) if batch.used else []


def learn(loop: TrainingLoop, watch: Stopwatch, batch: Selection, samples: list[Sample],
          kl: KLCoefficient) -> tuple[Updates, dict[str, float]]:
    """The updates of the step, and its metrics; from here on the step is done, and Progress says so."""
    run = loop.run
    config = loop.config
    with watch("update"), alone():
        updates = []
        if batch.used:
            updates = update(samples, loop.learner, loop.objective, config, run.progress.step, kl)
        run.progress = dataclasses.replace(run.progress, step=run.progress.step + 1, **loop.source.position())
        run.record("train", batch.used, by_rollout(batch.used, samples))
        run.record("dropped", batch.dropped)
        run.record("failed", batch.failed)
        metrics = fetch(updates, run)
    run.progress = dataclasses.replace(run.progress, kl_coef=kl.after(metrics).adapted)
    return updates, metrics | kl.metrics()


def publish(loop: TrainingLoop, watch: Stopwatch) -> dict[str, float]:
    """Gives the engine the new weights; what it says of it."""
    with watch("sync"):
        return loop.source.publish(loop.learner.params(), loop.run.progress.step) or {}
