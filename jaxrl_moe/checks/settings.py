"""All that the settings alone tell: unknown names, contradictions, what has no effect, what a phase lacks."""
import importlib
from collections.abc import Iterator

from jaxrl_moe.checks import files, tasks
from jaxrl_moe.checks.problems import unknown
from jaxrl_moe.checks.sections import algorithm, episodes, learner, mesh, model, rollout, servers
from jaxrl_moe.checks.start import Job, Start
from jaxrl_moe.config import Config, known_fields, setting_of, value_of
from jaxrl_moe.envs import TASKS
from jaxrl_moe.phases import has_warm_up, longest_named, longest_rollout
from jaxrl_moe.types import Problem

RULES = (mesh, model, learner, rollout, algorithm)  # each has contradictions(config)


def problems(start: Start) -> list[Problem]:
    """What speaks against a start by its settings alone. What reads an unknown name is not asked."""
    config = start.config
    unknowns = [*names(start)]
    refused = [*contradictions(start.recipe), *unknowns, *required(start)]
    if start.rl and not any(problem.field.startswith("algorithm.") for problem in unknowns):
        refused += algorithm.problems(config, tasks.lowest_reward(start))
        refused += learner.critic_problems(config)
    return [*refused, *_of_phases(start)]


def contradictions(config: Config) -> list[Problem]:
    """Settings that cannot work together in whatever phase."""
    return [*(problem for rules in RULES for problem in rules.contradictions(config)), *_of_run(config)]


def names(start: Start) -> Iterator[Problem]:
    """Yields names that no table has."""
    config = start.recipe if start.job is Job.SFT else start.config
    yield from algorithm.unknown_specs(config.algorithm)
    for key, field in known_fields().items():
        setting = setting_of(field)
        if field.type is str and setting.table and not setting.brackets:
            yield from unknown(key, value_of(config, key), [*setting.choices, *table_rows(setting.table)])
    if start.rl or config.env.name:
        yield from tasks.problems(start)
    yield from learner.unknown_offload(config)


def table_rows(table: str) -> list[str]:
    """The names in a table of the library, such as "learning.replay.REPLAY"."""
    module, _, name = table.rpartition(".")
    return list(getattr(importlib.import_module(f"jaxrl_moe.{module}"), name))


def required(start: Start) -> Iterator[Problem]:
    """Yields what the job needs and was not given."""
    config = start.config
    sft = start.config.sft
    if not config.model.path:
        yield Problem("model.path", None, "is empty", "give an HF checkpoint folder or a hub name")
    if start.rl and not config.data.source:
        yield Problem("data.path", None, "is empty",
                      "give a jsonl, json or parquet file, or a hub data set such as openai/gsm8k; or "
                      "data.seeds, where the task makes its instances by itself")
    if start.job is Job.EVALUATE:
        yield from () if config.env.name else tasks.problems(start)
        if not config.data.eval_source:
            yield Problem("data.eval_path", None, "is empty, so there is nothing to evaluate on",
                          "give held-out prompts")
    if start.job is not Job.SFT:
        return
    if not sft.source:
        yield Problem("sft.path", None, "is empty", "give a jsonl, json or parquet file of conversations")
    if not sft.steps and not sft.epochs:
        yield Problem("sft.steps and sft.epochs", None, "are both 0, so there is nothing to do",
                      "set one of them")
    if sft.eval_every and not config.env.name:
        yield Problem("sft.eval_every", sft.eval_every,
                      "has no effect, as env.name names no task to grade completions",
                      f"set it (known: {', '.join(TASKS)}), or sft.eval_every=0")


def _of_phases(start: Start) -> Iterator[Problem]:
    """Yields what speaks against the phases to run, besides the algorithm."""
    config = start.config
    yield from episodes.problems(start)
    budget = start.config.train.tokens_per_micro_batch
    if start.rl:
        yield from rollout.problems(config)
        yield from servers.server_problems(config)
        longest = longest_rollout(config)
        if budget < longest:
            yield Problem("train.tokens_per_micro_batch", budget, "cannot hold the longest sequence: "
                          f"{longest_named(config)} = {longest}",
                          "raise it or lower those")
    if start.sft and has_warm_up(config) and budget < config.sft.max_tokens:
        yield Problem("train.tokens_per_micro_batch", budget,
                      f"cannot hold the longest conversation: sft.max_tokens = {config.sft.max_tokens}",
                      "raise it or lower that")


def _of_run(config: Config) -> Iterator[Problem]:
    """Yields contradictions of the sections that say how long and where the phases run."""
    sft = config.sft
    steps = config.train.steps
    start = config.logging.profile_start
    if config.checkpoint.resume_step >= 0 and not config.checkpoint.resume:
        yield Problem("checkpoint.resume_step", config.checkpoint.resume_step,
                      "has no effect, as checkpoint.resume is false", "set that to true, or leave this out")
    if not config.run_dir:
        yield Problem("run_dir", None, "is empty",
                      "name the folder that logs and checkpoints go to, such as runs/first")
    if sft.steps > 0 and sft.epochs > 0:
        yield Problem("sft.steps", sft.steps, f"and sft.epochs = {sft.epochs} both say how long SFT runs",
                      "set one of them to 0")
    if sft.stop_at_accuracy > 0 and sft.eval_every == 0:
        yield Problem("sft.stop_at_accuracy", sft.stop_at_accuracy, "needs evaluations during SFT",
                      "set sft.eval_every to a number of steps")
    if not sft.full and config.lora.rank == 0:
        yield Problem("sft.full", None,
                      "= false trains the adapters of the lora section, and lora.rank = 0 makes none",
                      "set lora.rank above 0, or sft.full=true")
    yield from files.contradictions(config)
    if not config.data.eval_source:
        yield from _without_held_out(config)
    if start >= max(steps, 1):
        yield Problem("logging.profile_start", start,
                      f"lies beyond train.steps = {steps}: the profiler would never open",
                      "set one that the run reaches, or -1 for no profile")


def _without_held_out(config: Config) -> Iterator[Problem]:
    settings = {"eval.every": config.eval.every, "sft.eval_every": config.sft.eval_every,
                "sft.stop_at_accuracy": config.sft.stop_at_accuracy}
    for key, value in settings.items():
        if value > 0:
            yield Problem(key, value, "has no effect, as data.eval_path (or eval_files, eval_seeds) names no "
                          "held-out prompts",
                          f"give it a path, or set {key}=0")
