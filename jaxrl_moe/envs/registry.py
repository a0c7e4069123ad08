"""Tasks by name: the table of those that the package has, those that others add to it, and env.name with its
settings read into one."""
import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs.adapters.gymnasium import GymnasiumTask
from jaxrl_moe.envs.adapters.mcp import McpTask
from jaxrl_moe.envs.adapters.openenv import OpenEnvTask
from jaxrl_moe.envs.adapters.reasoning_gym import ReasoningGymTask
from jaxrl_moe.envs.adapters.verifiers import VerifiersTask
from jaxrl_moe.envs.agent import AgentTask
from jaxrl_moe.envs.factories import Factory, defaults, imported, makers, problems, shown
from jaxrl_moe.envs.gsm8k import Gsm8k
from jaxrl_moe.envs.kernels.choices.task import TritonChoices
from jaxrl_moe.envs.kernels.task import TritonKernels
from jaxrl_moe.envs.math import Mathematics
from jaxrl_moe.envs.mixture import Mixture
from jaxrl_moe.envs.remote.agentgym import AgentGym
from jaxrl_moe.envs.remote.remote_rollouts import RemoteRollouts
from jaxrl_moe.envs.remote.task_app import TaskApp
from jaxrl_moe.envs.text.alfworld import AlfWorld
from jaxrl_moe.envs.text.babyai import BabyAI
from jaxrl_moe.envs.text.sciworld import SciWorld
from jaxrl_moe.envs.text.textcraft import TextCraft
from jaxrl_moe.envs.text.webshop import WebShop
from jaxrl_moe.envs.word_problems import WordProblems
from jaxrl_moe.foreign_errors import crash
from jaxrl_moe.protocols import Task
from jaxrl_moe.rl.table import AlgorithmError, parse_spec
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import Prompt, UserError


def mixed(normalise: bool = True, **tasks: str) -> Mixture:
    """A task that holds several, each under a name of its own.

    Args:
      normalise: each one's rewards are brought to 0..1 by its score_range.
      tasks: as env.name would have each alone.

    Raises:
      UserError: one of them is refused, or they cannot be mixed, see Mixture.
    """
    return Mixture({name: make_task(spec) for name, spec in tasks.items()}, normalise)


TASKS: dict[str, Factory] = {
    "gsm8k": Gsm8k,
    "word_problems": WordProblems,
    "math": Mathematics,
    "textcraft": TextCraft,
    "babyai": BabyAI,
    "gymnasium": GymnasiumTask,
    "webshop": WebShop,
    "alfworld": AlfWorld,
    "sciworld": SciWorld,
    "triton_kernels": TritonKernels,
    "triton_choices": TritonChoices,
    "openenv": OpenEnvTask,
    "verifiers": VerifiersTask,
    "reasoning_gym": ReasoningGymTask,
    "mcp": McpTask,
    "agentgym": AgentGym,
    "remote_rollouts": RemoteRollouts,
    "agent": AgentTask,
    "task_app": TaskApp,
    "mixed": mixed}
_SPEC = re.compile(r"\s*(?P<name>[\w.:]*)\s*(?P<settings>\(.*\))?\s*", re.DOTALL)


def register(name: str, factory: Factory) -> None:
    """Adds a task under a name of its own, as of a package that this one knows nothing of.

    Raises:
      UserError: the name is taken, or is none.
    """
    if not name.isidentifier():
        raise UserError(f"A task cannot be called {name!r}: give a name of letters, digits and underscores, "
                        "such as my_task.")
    if TASKS.setdefault(name, factory) is not factory:
        raise UserError(f"There is a task {name!r} already: register yours under another name.")


def make_task(spec: str) -> Task:
    """Makes a task, which reads and checks its settings and does nothing else; close it in the end.

    Args:
      spec: a name, with settings in brackets if any: "gsm8k", "gsm8k(binary=true)". The name is a row of
        TASKS, or a class or function of any package that can be imported, as "my_package.my_module:MyTask".

    Raises:
      ConfigError: there is no such task, it has no such setting, a value is of another type, or the task
        refuses it.
    """
    where = f"env.name = {shown(spec)}"
    name, given = _read(spec, where)
    factory = _factory(name)
    _check(name, factory, given, where)
    return _made(factory, given, where)


def task_name(spec: str) -> str:
    """The name of a task without its settings; raises ConfigError where the text cannot be read."""
    return _read(spec, f"env.name = {shown(spec)}")[0]


def declared(spec: str) -> dict[str, Any]:
    """The settings of a task of TASKS, as env.name has them and else by their defaults; no task is made. None
    of a task of another package, which is not imported.

    Raises:
      ConfigError: the text cannot be read, or the task has no such setting.
    """
    where = f"env.name = {shown(spec)}"
    name, given = _read(spec, where) if spec else ("", {})
    if name not in TASKS:
        return {}
    _check(name, TASKS[name], given, where)
    return defaults(TASKS[name]) | given


def _check(name: str, factory: Factory, given: Mapping[str, Any], where: str) -> None:
    for problem in problems(name, factory, given):
        raise ConfigError(f"{where}: {problem}")


def _read(spec: str, where: str) -> tuple[str, dict[str, Any]]:
    """(name, settings) of env.name; raises ConfigError where it cannot be read."""
    match = _SPEC.fullmatch(spec.strip())
    if not match:
        raise ConfigError(f"{where} cannot be read: write a task's name, such as gsm8k, or a name with "
                          "settings in brackets, such as gsm8k(binary=true).")
    try:
        given = parse_spec(f"task{match['settings'] or ''}")[1]
    except AlgorithmError as error:
        raise ConfigError(f"{where} cannot be read: write settings as name=value, each once, with a number, "
                          "true, false or a text in quotes as value, such as gsm8k(binary=true).") from error
    return match["name"], given


def _made(factory: Factory, given: Mapping[str, Any], where: str) -> Task:
    try:
        task = factory(**given)
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{where}: the task cannot be made with these settings: {crash(error)}. Correct "
                          "them, or mend the task.") from error
    if Task not in type(task).__mro__:
        raise ConfigError(f"{where} makes {shown(task)} ({type(task).__name__}), which is no Task: inherit "
                          "from jaxrl_moe.protocols.Task or SingleTurnTask, see docs/extending/task.md.")
    return task


def check_rows(task: Task, prompts: Iterable[Prompt]) -> None:
    """Asks the task about every row, so that one that no episode can be made of is found before the training.
    Runs nothing.

    Raises:
      UserError: what the task says of the first such row, after its file and row.
    """
    for prompt in prompts:
        try:
            task.check_row(prompt.row, prompt.index)
        except UserError as error:
            raise UserError(f"{prompt.origin}: {error}") from error
        except Exception as error:
            raise UserError(f"{prompt.origin}: the task cannot look at the row: {crash(error)}. Mend its "
                            "check_row, or the row.") from error


def _factory(name: str) -> Factory:
    if name in TASKS:
        return TASKS[name]
    module, colon, attribute = name.partition(":")
    if colon:
        return imported(module, attribute)
    near = did_you_mean(name, TASKS) or _with_colon(name)
    raise ConfigError(f"env.name = {name!r} is not known.{near} Known: {', '.join(TASKS)}, or "
                      "package.module:Name for a task of another package.")


def _with_colon(name: str) -> str:
    """A hint for package.module.Name, if there is such a module."""
    module, _, attribute = name.rpartition(".")
    try:
        names = makers(importlib.import_module(module))
    except (Exception, SystemExit):  # the name is refused whatever the module does
        return ""
    return did_you_mean(attribute, names, prefix=f"{module}:")
