"""Tasks: each grades completions of its data rows. `ENVS` names them for `env.name`."""
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_moe.envs.gsm8k import Gsm8kEnv
from jaxrl_moe.envs.word_problems import WordProblemsEnv
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Prompt, UserError

ENVS: Mapping[str, Callable[..., Env]] = {"gsm8k": Gsm8kEnv, "word_problems": WordProblemsEnv}


def make_env(name: str, **settings: Any) -> Env:
    """Returns the task of that name.

    Args:
      name: a row of ENVS.
      settings: the other fields of the env section; one that is 0 or empty leaves the task its own default.

    Raises:
      UserError: there is no such task, or it has no such setting.
    """
    if name not in ENVS:
        near = difflib.get_close_matches(name, ENVS, 1)
        raise UserError(f"env.name is {name!r}, which is no task{f' (did you mean {near[0]!r}?)' if near else ''}. The tasks "
                        f"are {', '.join(ENVS)}.")
    given = {setting: value for setting, value in settings.items() if value}
    own = inspect.signature(ENVS[name]).parameters
    for setting in given.keys() - own.keys():
        raise UserError(f"env.{setting} = {given[setting]!r} has no effect on the task {name!r}: leave it out.")
    return ENVS[name](**given)


def check_rows(env: Env, prompts: Iterable[Prompt]) -> None:
    """Grades an empty completion of every row, so that a row that cannot be graded is found before the training.

    Raises:
      UserError: naming the first such row.
    """
    for prompt in prompts:
        try:
            env.grade(prompt.row, "", 0, False)
        except UserError as error:
            raise UserError(f"Data row {prompt.index} cannot be graded. {error}") from error
