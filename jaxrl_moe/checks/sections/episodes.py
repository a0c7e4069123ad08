"""The episodes section: does it fit the task, and can the chat template do what many turns need?"""
import dataclasses
from collections.abc import Iterator

from jaxrl_moe.checks import tasks
from jaxrl_moe.checks.problems import as_problem, idle, told
from jaxrl_moe.checks.start import Start
from jaxrl_moe.config import Config, EpisodesSection, value_of
from jaxrl_moe.data.chat.turn_check import check_template
from jaxrl_moe.outgoing.urls import checked_url
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Problem, Prompt, UserError

SEVERAL = ("rounds", "rounds_every", "max_tokens", "history", "order")  # fields that concern several turns


def problems(start: Start) -> Iterator[Problem]:
    """Yields what speaks against the section, given the task; nothing where that is refused itself."""
    if not start.config.env.name or list(tasks.problems(start)):
        return
    if start.task.max_turns == 1:
        yield from _without_effect(start.config)
    else:
        yield from _of_turns(start.config, start.task)
    if start.task.by_agents:
        yield from _of_agents(start)
    elif start.config.endpoint.public_url:
        yield Problem("endpoint.public_url", start.config.endpoint.public_url, "has no effect, as no agents "
                      f"play the episodes of env.name = {start.config.env.name!r}", "leave it out")


def template_problems(start: Start) -> Iterator[Problem]:
    """Yields why the chat template cannot do the turns of the task's episodes; once for each set of tools and
    variables that rows have."""
    if not start.config.env.name or list(tasks.problems(start)) or start.task.max_turns == 1:
        return
    seen = set()
    prompts = start.prompts[0] if start.rl else start.held_out[0] if start.config.data.eval_source else []
    for prompt in prompts:
        kind = repr((_tools(start.task, prompt), prompt.variables))
        if kind in seen:
            continue
        seen.add(kind)
        try:
            check_template(start.tokenizer, tools=_tools(start.task, prompt), variables=prompt.variables,
                           history=start.config.episodes.history)
        except UserError as error:
            yield as_problem("model.path", start.config.model.path, error)
            return


def _tools(task: Task, prompt: Prompt) -> tuple:
    return (*prompt.tools, *task.tools(prompt.row))


def _without_effect(config: Config) -> Iterator[Problem]:
    defaults = EpisodesSection()
    for field in dataclasses.fields(EpisodesSection):
        value = value_of(config, f"episodes.{field.name}")
        if field.name in SEVERAL and value != getattr(defaults, field.name):
            yield Problem(f"episodes.{field.name}", value, f"has no effect, as the episodes of env.name = "
                          f"{config.env.name!r} have one turn",
                          "leave it out, or take a task of several turns")


def _of_agents(start: Start) -> Iterator[Problem]:
    config = start.config
    plays = f"agents play the episodes of env.name = {config.env.name!r}, at sessions of the run's endpoint"
    if start.rl and not config.endpoint.serve:
        yield Problem("endpoint.serve", False, f"must be true: {plays}", "set endpoint.serve=true")
    if not start.rl and not start.sft:
        yield Problem("env.name", config.env.name, f"cannot be evaluated alone: {plays}",
                      "read the eval/ metrics of a training run, or name a task that is played here")
    if config.episodes.order == "fixed":
        yield Problem("episodes.order", "fixed", f"cannot be: {plays}, and call as they like",
                      "leave it out")
    yield from _of_outcomes(start)
    if config.endpoint.public_url:
        yield from told("endpoint.public_url", config.endpoint.public_url, lambda: checked_url(
            config.endpoint.public_url, "It", "http://host:port, without a name or password"))


def _of_outcomes(start: Start) -> Iterator[Problem]:
    """Yields what is asked of outcomes that agents tell, and of time-outs, in vain."""
    config = start.config
    if config.algorithm.step_rewards != "none" and not start.task.by_calls:
        yield Problem("algorithm.step_rewards", config.algorithm.step_rewards, "rewards single turns, and "
                      f"env.name = {config.env.name!r} tells of whole episodes",
                      "take a task that tells of each call, such as task_app(by_calls=true)")
    if start.task.compared:
        yield from _of_groups(config, start.task.compared)
    if start.task.ends_itself:
        yield from _of_servers(config)


def _of_servers(config: Config) -> Iterator[Problem]:
    """Yields what has no effect, as servers elsewhere play whole episodes, and cannot be told to end one."""
    because = f"as others play the episodes of env.name = {config.env.name!r}, which bounds them itself"
    yield from idle("episodes", config.episodes, ("step_timeout", "episode_timeout"), f", {because}",
                    "set the task's timeout")
    yield from idle("rollout", config.rollout, ("graders",), f", {because}",
                    "set the task's max_concurrent_rollouts")
    if config.rollout.stragglers == "cut":
        yield Problem("rollout.stragglers", "cut", f"cannot be, {because}", "take carry or abort")


def _of_groups(config: Config, compared: int) -> Iterator[Problem]:
    """Yields what keeps the works of a group from coming together before a judge who compares so many."""
    rollout = config.rollout
    sizes = {"rollout.group_size": rollout.group_size}
    if config.data.eval_source:
        sizes["eval.samples"] = config.eval.samples
        if config.eval.greedy:
            yield Problem("eval.greedy", True, "cannot be: a judge compares the works of a group, and a "
                          "greedy one is alone", "set eval.greedy=false")
    for name, size in sizes.items():
        if size != compared:
            yield Problem(name, size, f"is not the group_size = {compared} of env.name, whose judge "
                          "waits for so many works", "make them the same")


def _of_turns(config: Config, task: Task) -> Iterator[Problem]:
    settings = config.episodes
    over = [rounds for rounds in settings.rounds if rounds > task.max_turns]
    if over:
        yield Problem("episodes.rounds", settings.rounds, f"is more than the {task.max_turns} turns that "
                      f"env.name = {config.env.name!r} allows", "lower it, or raise the task's max_turns")
    if len(settings.rounds) > 1 and not settings.rounds_every:
        yield Problem("episodes.rounds", settings.rounds, "names several numbers, and episodes.rounds_every "
                      "= 0 says of none but the first when it holds", "set rounds_every to a number of steps")
    if settings.rounds_every and len(settings.rounds) < 2:
        yield Problem("episodes.rounds_every", settings.rounds_every, "has no effect, as episodes.rounds "
                      "names no second number", "give several, such as 10,20,30, or leave it out")
    if settings.max_tokens < config.rollout.max_tokens:
        lack = "is not given" if not settings.max_tokens else (
            f"is less than rollout.max_tokens = {config.rollout.max_tokens}, which a single turn may have")
        yield Problem("episodes.max_tokens", settings.max_tokens or None, f"{lack}, and the episodes of "
                      f"env.name = {config.env.name!r} have several turns",
                      "give the tokens that all turns and observations of an episode may have together")
    if settings.order == "fixed" and config.rollout.max_staleness:
        yield Problem("episodes.order", "fixed", "holds where drawing and updating take turns, and "
                      f"rollout.max_staleness = {config.rollout.max_staleness} lets them overlap",
                      "set rollout.max_staleness=0, or episodes.order=auto")
