"""Lines of scripts/verify_setup.py about what stands beside a run: the scripts that start it, and a rollout
buffer."""
import os
import pathlib
import shutil

from jaxrl_moe.config import Config
from jaxrl_moe.envs.registry import declared
from jaxrl_moe.outside import Fields, parse
from jaxrl_moe.serving.windows.supervisor import NO_PROXY
from jaxrl_moe.types import UserError

SCRIPTS = ("train.py", "serve.py", "launch/tmux.py")
MOST_BYTES = 2**20


def scripts_line(config: Config, folder: pathlib.Path) -> str:
    """Whether this user can read what scripts/launch/tmux.py starts, in the folder of the scripts.

    Raises:
      UserError: a script is not there, or cannot be read.
    """
    wrong = [name for name in SCRIPTS if not os.access(folder / name, os.R_OK)]
    if wrong:
        raise UserError(f"{', '.join(wrong)} cannot be read in {folder}: give its files back their "
                        f"permissions "
                        "(chmod -R u+r scripts), or fetch them again.")
    if not config.env.name or not declared(config.env.name).get("url"):
        return "readable; the task asks no server that scripts/launch/tmux.py would start"
    tmux = shutil.which("tmux")
    return f"readable; tmux is {tmux}" if tmux else "readable; without tmux, start them with --plain"


def buffer_line(url: str) -> str:
    """What a rollout buffer says of itself.

    Raises:
      UserError: it does not answer, or is none.
    """
    where = f"{url.rstrip('/')}/health"
    try:
        with NO_PROXY.open(where, timeout=10) as answer:
            data = answer.read(MOST_BYTES)
    except (OSError, ValueError) as error:
        raise UserError(f"The rollout buffer does not answer at {where}: {error}. Start it by `python "
                        "scripts/serve.py buffer`, or correct --buffer_url.") from error
    told = Fields(parse(data, f"the answer of {where}"), f"the answer of {where}")
    if told.values.get("kind") != "buffer":
        raise UserError(f"{url} is no rollout buffer: another server answers there. Correct --buffer_url.")
    waiting, open_groups = told.integer("groups_finished"), told.integer("groups_open")
    return f"{url}: {waiting} groups wait for their reader, {open_groups} are open"
