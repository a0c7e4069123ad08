"""Tasks: each grades completions of its data rows. `ENVS` names them for `env.name`."""
import difflib
from collections.abc import Callable, Mapping

from jaxrl_moe.envs.gsm8k import Gsm8kEnv
from jaxrl_moe.envs.word_problems import WordProblemsEnv
from jaxrl_moe.types import Env, UserError

ENVS: Mapping[str, Callable[[], Env]] = {"gsm8k": Gsm8kEnv, "word_problems": WordProblemsEnv}


def make_env(name: str) -> Env:
    """Returns the task of that name.

    Raises:
      UserError: there is none.
    """
    if name not in ENVS:
        near = difflib.get_close_matches(name, ENVS, 1)
        raise UserError(f"env.name is {name!r}, which is no task{f' (did you mean {near[0]!r}?)' if near else ''}. The tasks "
                        f"are {', '.join(ENVS)}.")
    return ENVS[name]()
