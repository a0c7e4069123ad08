"""The folders of a run that hold trajectories: those of its phases, and of its evaluation."""
import pathlib

from jaxrl_moe.paths import shortened, usable
from jaxrl_moe.types import UserError

PHASES = ("", "sft", "evaluation")  # below run_dir
TRAJECTORIES = "trajectories.jsonl"
METRICS = "metrics.jsonl"
SETTINGS = "config.json"


def run_folder(path: str) -> pathlib.Path:
    """The folder of a run, or of an evaluation, that there is something to see of.

    Raises:
      UserError: there is no such folder, or what it is has no trajectories.
    """
    folder = pathlib.Path(usable(path))
    name = shortened(path)
    if folder.is_file():
        raise UserError(f"{name} is a file. Give the folder of the run, {shortened(str(_run_of(folder)))}; "
                        "what its evaluations drew is shown there too.")
    if not folder.is_dir():
        raise UserError(f"There is no folder {name}. Give the run_dir of a run, such as runs/quickstart.")
    if any((folder / phase / TRAJECTORIES).is_file() for phase in PHASES):
        return folder
    if any((folder / phase / kept).is_file() for phase in PHASES for kept in (METRICS, SETTINGS)):
        raise UserError(f"The run in {name} has no {TRAJECTORIES}, so there is nothing to show of what it "
                        "drew. Runs keep one unless logging.trajectories=false; one that has just been "
                        "started makes it when its first phase begins.")
    raise UserError(f"{name} is no run's folder: it has neither {TRAJECTORIES} nor {METRICS}, and neither "
                    "has a folder sft or evaluation in it. Give the run_dir of a run, such as "
                    "runs/quickstart.")


def _run_of(path: pathlib.Path) -> pathlib.Path:
    """The run's folder that a file belongs to."""
    folder = path.parent
    return folder.parent if folder.name in PHASES else folder
