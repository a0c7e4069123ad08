"""What the phases of the RL loop share, and what stands around the algorithm: evaluation, log, checkpoints,
resumption."""
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from jaxrl_moe.config import Config
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.batch import MicroBatch
from jaxrl_moe.learning.objective import PolicyObjective
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.protocols import Engine
from jaxrl_moe.rl.metrics import Metrics
from jaxrl_moe.rollout.agents.sessions import StoppedError
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import failures_told
from jaxrl_moe.runs.evaluation import Evaluation, evaluate
from jaxrl_moe.runs.flops import FlopMeter
from jaxrl_moe.runs.metrics import Stopwatch, kept_mass, update_metrics
from jaxrl_moe.runs.monitor import peak_bytes, refuse_non_finite
from jaxrl_moe.runs.run import Run
from jaxrl_moe.training.selection import Selection
from jaxrl_moe.training.source import Source
from jaxrl_moe.types import Prompt, SamplingParams, UserError

Updates = Sequence[tuple[Metrics, list[MicroBatch]]]


@dataclasses.dataclass
class TrainingLoop:
    """What the phases of every step work with; checkpoint_times is what the last save took, for the next
    row."""
    config: Config
    learner: Learner
    engine: Engine
    episodes: Episodes
    eval_prompts: Sequence[Prompt]
    sampling: SamplingParams
    objective: PolicyObjective
    meter: FlopMeter
    run: Run
    source: Source
    checkpoint_times: dict[str, float] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def saving_what_was_done(loop: TrainingLoop) -> Iterator[None]:
    """Where a step cannot be trained on (a UserError), the steps before it are saved; of this one nothing is
    kept."""
    run = loop.run
    try:
        yield
    except UserError:
        if run.progress.step and run.progress.step not in run.checkpoints.steps():
            run.save(loop.learner)
        raise


def fetch(updates: Updates, run: Run) -> dict[str, float]:
    """Waits for the updates and merges their metrics; refuses what is not finite. Writes the experts' load,
    if there is one."""
    if not updates:
        return {}
    on_host = []
    rows = []
    tokens = []
    values = []
    for on_device, batches in updates:
        on_host.append(hosts.fetch(on_device))
        rows.append(update_metrics(on_host[-1:]))
        refuse_non_finite(run.progress.step, rows[-1], batches, run.folder)
        tokens.append(float(batches[0].num_tokens))
        values.append(1.0 if batches[0].num_values is None else float(batches[0].num_values))
    if "load" in on_host[0]:
        run.record_load(run.progress.step, sum(metrics["load"] for metrics in on_host))
    return rows[0] if len(rows) == 1 else update_metrics(on_host, tokens, values)


def evaluate_at_start(loop: TrainingLoop) -> None:
    """The policy as it comes, in the row of step 0."""
    run = loop.run
    if not loop.eval_prompts or not loop.config.eval.at_start or run.progress.step or run.checkpoints.steps():
        return
    with contextlib.suppress(StoppedError):  # what agents were to play is played at the next start
        evaluation = held_out(loop)
        run.record_evaluation(evaluation)
        run.log(0, evaluation.metrics)


def evaluate_if_due(loop: TrainingLoop, watch: Stopwatch) -> tuple[Evaluation | None, bool]:
    """(the evaluation of the new weights, or None; whether it is the best so far)."""
    if not loop.eval_prompts or not loop.run.due(loop.config.eval.every):
        return None, False
    try:
        with watch("evaluate"):
            evaluation = held_out(loop)
    except StoppedError:  # the step itself is done
        return None, False
    return evaluation, loop.run.record_evaluation(evaluation)


def held_out(loop: TrainingLoop) -> Evaluation:
    with loop.source.idle():
        return evaluate(loop.eval_prompts, loop.episodes, loop.engine, loop.config)


def log(loop: TrainingLoop, watch: Stopwatch, batch: Selection, updates: Updates,
        metrics: dict[str, float]) -> None:
    """Writes the step's row, and says what went wrong with its environments. The checkpoint follows, so that
    its time stands in the next row, if there is one."""
    times = watch.times()
    metrics |= throughput(batch, times) | loop.run.compilations.metrics() | loop.checkpoint_times
    micro_batches = [micro_batch for _, batches in updates for micro_batch in batches]
    metrics |= loop.meter.metrics(micro_batches, times["time/step_s"])
    loop.run.log(loop.run.progress.step, metrics)
    if told := failures_told(batch.tries):
        loop.run.console.say(f"Episodes of step {loop.run.progress.step}: {told}")
    loop.checkpoint_times = {}


def throughput(batch: Selection, times: dict[str, float]) -> dict[str, float]:
    """Tokens a second: drawn in the rollout, and all of the batch's over the whole step."""
    rollouts = [rollout for group in batch.drawn for rollout in group.rollouts]
    completed = sum(len(rollout.completion_ids) for rollout in rollouts)
    read = sum(len(rollout.prompt_ids) for rollout in rollouts)
    drawn = sum(rollout.drawn for rollout in rollouts) if batch.tokens is None else batch.tokens
    return {**times, "rollout/tokens_per_s": drawn / max(times["time/rollout_s"], 1e-9),
            "perf/tokens_per_s": (completed + read) / times["time/step_s"], "perf/peak_bytes": peak_bytes()}


def checkpoint_if_due(loop: TrainingLoop, watch: Stopwatch, evaluation: Evaluation | None,
                      improved: bool) -> None:
    """Saves at the settings' steps, where the evaluation was the best so far, and before a run ends early."""
    run = loop.run
    if run.due(loop.config.checkpoint.every) or improved or run.stop:
        with watch("checkpoint"):
            score = evaluation.score if evaluation else None
            run.save(loop.learner, score)
        loop.checkpoint_times = {"time/checkpoint_s": watch.times()["time/checkpoint_s"]}


def warn_of_truncation(loop: TrainingLoop) -> None:
    if loop.sampling.truncates:
        loop.run.console.say(
            "Warning: top-p, top-k or min-p leave out tokens, while log-probs are those of the whole "
            "distribution, so the policy gradient is biased; watch rollout/kept_mass.")


def truncation_metrics(loop: TrainingLoop, before: Mapping[str, float]) -> dict[str, float]:
    """rollout/kept_mass since engine.stats() gave `before`, where tokens are left out and the engine counts
    them."""
    if not loop.sampling.truncates or "kept_mass" not in before:
        return {}
    return {"rollout/kept_mass": kept_mass(before, loop.engine.stats())}
