"""The RL loop: prompts -> rollout -> reward -> advantage -> batch -> update -> publish -> evaluate -> checkpoint."""
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

from jaxrl_moe.config import Config
from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.envs import make_env
from jaxrl_moe.hosts import hosts
from jaxrl_moe.hosts.turns import alone
from jaxrl_moe.learning.objective import make_policy_objective, next_kl_coef, present_kl_coef
from jaxrl_moe.learning.prepare import prepare
from jaxrl_moe.learning.replay import replay_metrics
from jaxrl_moe.learning.samples import by_rollout
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.learning.update import update
from jaxrl_moe.phases import sampling
from jaxrl_moe.protocols import Engine
from jaxrl_moe.rollout.draws import Draws
from jaxrl_moe.runs.evaluation import evaluate
from jaxrl_moe.runs.flops import FlopMeter
from jaxrl_moe.runs.metrics import Stopwatch, kept_mass, rollout_metrics, update_metrics
from jaxrl_moe.runs.monitor import peak_bytes, refuse_non_finite
from jaxrl_moe.runs.run import Run, identity, open_run
from jaxrl_moe.training.selection import Selection, nothing_to_learn, selection_metrics
from jaxrl_moe.training.source import open_source
from jaxrl_moe.types import Prompt, UserError


def train(config: Config, learner: Learner, engine: Engine, tokenizer: Tokenizer, prompts: Sequence[Prompt],
          eval_prompts: Sequence[Prompt]) -> bool:
    """Trains for train.steps steps, from the newest checkpoint in run_dir if there is one.

    Args:
      config: resolved and validated.
      learner: holds the policy, its optimiser and its update.
      engine: draws completions; gets the weights after every update.
      tokenizer: the model's.
      prompts, eval_prompts: tokenised; without eval_prompts nothing is evaluated.

    Returns:
      True when all steps are done, False if SIGTERM ended the run early; it is saved either way.

    Raises:
      UserError: see the parts; a loss or gradient that is not finite stops the run (NonFiniteError).
    """
    env, decode = make_env(**dataclasses.asdict(config.env)), tokenizer.decode
    draws = Draws(PromptIterator(prompts, seed=config.seed, shuffle=config.data.shuffle), prompts)
    params = sampling(config)
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    meter, checkpoint_seconds = FlopMeter(learner), {}
    with (open_run(config, pathlib.Path(config.run_dir), "RL", config.train.steps, identity(learner, config), decode) as run,
          open_source(config, engine, env, draws, params, decode) as source):
        resume(run, learner, draws)
        source.publish(learner.params(), run.progress.step)
        if params.truncates:
            run.console.say("Warning: top-p, top-k or min-p leave out tokens, while log-probs are those of the whole "
                            "distribution, so the policy gradient is biased; watch rollout/kept_mass.")
        if run.progress.step == 0 and config.eval.at_start and eval_prompts and not run.checkpoints.steps():
            with source.idle():
                evaluation = evaluate(eval_prompts, env, engine, config, decode)
            run.record_evaluation(evaluation)
            run.log(0, evaluation.metrics)
        while not run.finished:
            step, watch = run.progress.step, Stopwatch()
            kl_coef = present_kl_coef(config.algorithm, run.progress.kl_coef)
            run.profiler.before(step)

            stats = engine.stats()
            batch = source.next(watch)
            if config.rollout.dynamic_sampling and not batch.used:
                with saving_what_was_done(run, learner):
                    raise nothing_to_learn(batch, config, step + 1)
            with watch("old_logprobs"), saving_what_was_done(run, learner), alone():
                samples = prepare(batch.used, learner, config, kl_coef) if batch.used else []
            with watch("update"), alone():
                updates = update(samples, learner, objective, config, step, kl_coef) if batch.used else []
                run.progress = dataclasses.replace(run.progress, step=step + 1, **source.position())
                run.record("train", batch.used, by_rollout(batch.used, samples))
                run.record("dropped", batch.dropped)
                metrics = fetch(updates, run)
            if config.algorithm.kl_coef > 0:
                metrics["policy/kl_coef"] = kl_coef
                run.progress = dataclasses.replace(run.progress, kl_coef=next_kl_coef(config.algorithm, kl_coef, metrics))
            with watch("sync"):
                synced = source.publish(learner.params(), step + 1)

            metrics |= synced or {}
            metrics |= rollout_metrics(batch.drawn, step, batch.aborted * params.n) | selection_metrics(batch, config)
            metrics |= replay_metrics(samples)
            if params.truncates and "kept_mass" in stats:
                metrics["rollout/kept_mass"] = kept_mass(stats, engine.stats())
            score, improved = None, False
            if eval_prompts and run.due(config.eval.every):
                with watch("evaluate"), source.idle():
                    evaluation = evaluate(eval_prompts, env, engine, config, decode)
                improved = run.record_evaluation(evaluation)
                score, metrics = evaluation.score, metrics | evaluation.metrics
            times = watch.times()
            metrics |= throughput(batch, times) | run.compilations.metrics() | checkpoint_seconds
            metrics |= meter.metrics([one for _, batches in updates for one in batches], times["time/step_s"])
            run.log(step + 1, metrics)
            checkpoint_seconds = {}
            if run.due(config.checkpoint.every) or improved or run.stop:
                with watch("checkpoint"):  # the row must stand before the checkpoint does: its time goes to the next row, if any
                    run.checkpoints.save(learner.stored(), run.progress, score)
                checkpoint_seconds = {"time/checkpoint_s": watch.times()["time/checkpoint_s"]}
        return run.progress.step >= run.last_step


def resume(run: Run, learner: Learner, draws: Draws) -> None:
    """Goes back to the newest checkpoint, if there is one: weights, optimiser, data position, draw counter and unfinished draws."""
    if run.checkpoints.steps():
        state, run.progress = run.checkpoints.restore(learner.stored())
        learner.take_over(state)
        draws.restore(dataclasses.asdict(run.progress))
        run.console.say(f"Going on from the checkpoint of step {run.progress.step} in {run.checkpoints.folder}.")


@contextlib.contextmanager
def saving_what_was_done(run: Run, learner: Learner) -> Iterator[None]:
    """Where a step cannot be trained on (a UserError), the steps before it are saved; of this one nothing is kept."""
    try:
        yield
    except UserError:
        if run.progress.step and run.progress.step not in run.checkpoints.steps():
            run.checkpoints.save(learner.stored(), run.progress)
        raise


def fetch(updates: Sequence[tuple], run: Run) -> dict[str, float]:
    """Waits for the updates and merges their metrics; refuses what is not finite. Writes the experts' load, if there is one."""
    if not updates:
        return {}
    found, rows, counts = [], [], []
    for device_metrics, batches in updates:
        found.append(hosts.fetch(device_metrics))
        rows.append(update_metrics(found[-1:]))
        refuse_non_finite(run.progress.step, rows[-1], batches, run.folder)
        counts.append((float(batches[0].num_tokens), 1.0 if batches[0].num_values is None else float(batches[0].num_values)))
    if "load" in found[0]:
        run.record_load(run.progress.step, sum(values["load"] for values in found))
    return rows[0] if len(rows) == 1 else update_metrics(found, *zip(*counts))


def throughput(batch: Selection, times: dict[str, float]) -> dict[str, float]:
    """Tokens a second: drawn in the rollout, and all of the batch's over the whole step."""
    rollouts = [rollout for group in batch.drawn for rollout in group.rollouts]
    drawn, read = (sum(len(getattr(rollout, ids)) for rollout in rollouts) for ids in ("completion_ids", "prompt_ids"))
    return {**times, "rollout/tokens_per_s": (drawn if batch.tokens is None else batch.tokens) / max(times["time/rollout_s"], 1e-9),
            "perf/tokens_per_s": (drawn + read) / times["time/step_s"], "perf/peak_bytes": peak_bytes()}
