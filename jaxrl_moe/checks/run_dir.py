"""The run's folder: whose it is, what lies there already, and whether it can be written to."""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import IO, Any

from jaxrl_moe import partials
from jaxrl_moe.checks.problems import told
from jaxrl_moe.checks.start import Job, Start, read_paths
from jaxrl_moe.config import Config, ConfigError, to_json
from jaxrl_moe.hosts import hosts
from jaxrl_moe.log_files import SERVED
from jaxrl_moe.phases import sft_config
from jaxrl_moe.runs.checkpoints import checkpoint
from jaxrl_moe.runs.checkpoints.meta import lasting_changes
from jaxrl_moe.runs.checkpoints.resuming import (
    CHECKPOINTS,
    flat,
    read_settings,
    refuse_lost_checkpoints,
    resumed_step,
    standing,
)
from jaxrl_moe.runs.logs import KNOWN, METRICS, SETTINGS
from jaxrl_moe.types import Problem, UserError

EXPORTS = ("model", "adapter", "critic")  # in a phase's folder
LEAST_FREE = 1 << 30  # bytes that a run's folder should have
# In run_dir, beside the logs that a checkpoint knows.
_WRITTEN = (CHECKPOINTS, SETTINGS, SERVED, *EXPORTS, "evaluation")
# What an SFT phase's weights follow from, besides the seed.
_SFT_SECTIONS = ("sft", "scratch", "lora", "optimizer", "moe")
_SFT_SETTINGS = ("model.path", "model.dtype", "data.system_prompt", "data.suffix")


def refuse_other_settings(config: Config) -> None:
    """All processes of a job must have the same settings, or they would wait for each other for ever.

    Raises:
      ConfigError: this one has others than process 0.
    """
    ours = json.loads(json.dumps(flat(to_json(config))))
    theirs = hosts.from_leader(lambda: ours)
    differing = [f"{key} = {ours[key]!r} (there {theirs[key]!r})" for key in ours if ours[key] != theirs[key]]
    if differing:
        raise ConfigError(f"This process has other settings than process 0: {', '.join(differing)}. Give all "
                          "the same recipe and options.")


def folder_problems(start: Start) -> Iterator[Problem]:
    """Yields why run_dir cannot be written to, or is in use. Nothing is written."""
    if start.job is Job.EVALUATE:
        return
    path = start.config.run_dir
    parent = nearest(pathlib.Path(path))
    broken = _no_folder(pathlib.Path(path), parent)
    if broken:
        yield Problem("run_dir", path, broken, "name a folder, one that is there or is to be made")
        return
    if not os.access(parent, os.W_OK | os.X_OK):
        yield Problem("run_dir", path, f"cannot be made or written to in {str(parent)!r}",
                      "check who may write there, or give another run_dir")
        return
    yield from told("run_dir", path, lambda: check_space(parent))
    yield from told("run_dir", path, lambda: _try_lock(pathlib.Path(path)))


def output_problems(start: Start) -> Iterator[Problem]:
    """Yields what lies where an export at the end is to be written and must not be replaced, and a run_dir
    among the files of its model."""
    if start.job is Job.EVALUATE:
        return
    run = pathlib.Path(start.recipe.run_dir)
    outputs = [phase / name for phase, wanted in ((run, start.rl), (run / "sft", start.sft)) if wanted
               for name in EXPORTS]
    for output in outputs:
        if output.exists():
            yield from told("run_dir", str(run), lambda output=output: start.bridge.check_replaceable(output))
    model = os.path.realpath(start.recipe.model.path)
    inside = pathlib.Path(os.path.realpath(run)).is_relative_to(model)
    if start.recipe.model.path and os.path.isdir(model) and inside:
        yield Problem("run_dir", str(run), f"lies in model.path = {start.recipe.model.path!r}, among whose "
                      "files it would write its own", "give a folder outside")


def own_problems(start: Start) -> Iterator[Problem]:
    """Yields what the run would read that lies where it writes, in files of run_dir that are its own."""
    config = start.recipe
    if start.job is Job.EVALUATE:
        return
    folder = pathlib.Path(config.run_dir).resolve()
    names = (*_WRITTEN, *KNOWN) if start.rl else ()
    written = [folder / name for name in (*names, *(("sft",) if start.sft else ()))]
    for field, path in [*read_paths(config), ("critic.path", config.critic.path)]:
        place = pathlib.Path(path).resolve()
        over = [other for other in written if other == place or other in place.parents]
        if path and field == "model.path" and place == folder:
            over = [folder / SETTINGS]
        if path and over:
            yield Problem(field, path, f"would be written over: in run_dir = {config.run_dir!r}, "
                          f"{over[0].name} is the run's own", "give another run_dir, or copy it elsewhere")


def _no_folder(folder: pathlib.Path, there: pathlib.Path) -> str:
    """Why no folder can be made of that name, of which `there` is the part that is there; empty: it can."""
    if not there.is_dir():
        what = "is a file" if there == folder else f"lies under {str(there)!r}, which is a file"
        return f"cannot be made or written to: it {what}"
    links = [path for path in (folder, *folder.absolute().parents) if path.is_symlink() and not path.exists()]
    return f"cannot be made or written to: {str(links[-1])!r} is a link to nothing" if links else ""


def nearest(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def check_space(folder: pathlib.Path) -> int:
    """The free bytes of the folder's disk. Raises UserError where they are too few for a run."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise UserError(f"{folder} has {free / 2**20:.0f} MiB left; a run writes checkpoints and exports "
                        "there. Free some, or give another run_dir.")
    return free


def earlier_problems(start: Start) -> Iterator[Problem]:
    """Yields what of an earlier run in run_dir speaks against this one."""
    config = start.config
    if start.given:
        return
    yield from told("run_dir", config.run_dir, lambda: refuse_other_seed(config))
    if start.sft:
        yield from told("run_dir", config.run_dir, lambda: warmed_up(start.recipe))
    if not config.checkpoint.resume:
        yield from _unwanted(start)
    elif start.job is not Job.EVALUATE:
        yield from _resumed(start)


def _resumed(start: Start) -> Iterator[Problem]:
    """Yields what keeps the first phase to run from going on from its checkpoint, as far as JSON tells."""
    config = start.config
    folder = pathlib.Path(config.run_dir)
    if not start.rl or start.sft and not (folder / "sft" / "model").exists():
        folder = folder / "sft"
        config = sft_config(start.recipe)
    refused = list(told("run_dir", config.run_dir, lambda: refuse_lost_checkpoints(folder)))
    refused += told("checkpoint.resume_step", config.checkpoint.resume_step, lambda: standing(config, folder))
    yield from refused
    step = -1 if refused else resumed_step(config, folder)
    if step < 0:
        return
    path = folder / CHECKPOINTS / str(step)
    saved = checkpoint.read_meta(path).config
    for key, (before, after) in lasting_changes(saved, to_json(config)).items():
        if key == "seed" and (folder / SETTINGS).exists():  # as refuse_other_seed says
            continue
        yield Problem(key, after, f"cannot go on from {path}, which was trained with {key} = {before!r}",
                      "set it as it was, or give a fresh run_dir")


def _unwanted(start: Start) -> Iterator[Problem]:
    """Yields the folders of phases to run that hold an earlier run, which shall not be gone on with."""
    folder = pathlib.Path(start.config.run_dir)
    tuned = (folder / "sft" / "model").exists()
    for phase in (*(folder,) * start.rl, *(folder / "sft",) * (start.sft and not tuned)):
        if checkpoint.steps_in(phase / CHECKPOINTS) or (phase / METRICS).exists():
            yield Problem("run_dir", start.config.run_dir,
                          f"holds an earlier run in {phase}, and checkpoint.resume is false",
                          "give another run_dir, or delete it")


def refuse_other_seed(config: Config) -> None:
    """Files of a run made with one seed must not be taken for those of another.

    Raises:
      ConfigError: the folder holds a run with another seed.
    """
    for path in (pathlib.Path(config.run_dir) / phase / SETTINGS for phase in (".", "sft")):
        seed = read_settings(path).get("seed", config.seed)
        if seed != config.seed:
            raise ConfigError(f"run_dir = {config.run_dir!r} holds a run with seed {seed}, but seed = "
                              f"{config.seed}: give another run_dir, or the old seed to go on with that run.")


def warmed_up(config: Config) -> bool:
    """Whether the SFT phase's exports (model, and adapter if it trained one) are there, made with these very
    settings.

    Raises:
      ConfigError: it was made with others, so RL would start from a model that the recipe does not describe.
    """
    folder = pathlib.Path(config.run_dir) / "sft"
    if not (folder / "model").exists():
        return False
    before = flat(read_settings(folder / SETTINGS))
    now = flat(to_json(sft_config(config)))
    other = [f"{key} (was {before[key]!r}, is {now[key]!r})" for key in sorted(before.keys() & now.keys())
             if _matters(key, now, before) and before[key] != now[key]]
    if other:
        raise ConfigError(f"{folder / 'model'} was fine-tuned with other settings: {', '.join(other)}. Give "
                          f"another run_dir, delete {folder} to fine-tune again, or set them as they were.")
    return not now["lora.rank"] or (folder / "adapter").exists()


def _matters(key: str, settings: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the SFT phase depends on a setting; of the adapters' section only where it has adapters."""
    if key == "model.dtype":
        return bool(settings[key] and before[key])  # empty: what the run has is taken
    section = key.partition(".")[0]
    if section == "lora" and key != "lora.rank" and not settings["lora.rank"]:
        return False
    if key == "moe.replay":
        return False
    return section in _SFT_SECTIONS or key in _SFT_SETTINGS


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Holds run_dir for this process, or its job, alone; the lock ends with the process, however it ends.

    Raises:
      UserError: another process holds it.
    """
    folder = pathlib.Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        hosts.on_leader(lambda: _lock(held.enter_context((folder / ".lock").open("w")), run_dir))
        hosts.on_leader(lambda: _tidy_exports(folder))
        yield


def _tidy_exports(folder: pathlib.Path) -> None:
    for phase in (folder, folder / "sft"):
        partials.tidy(phase)


def _lock(file: IO[Any], run_dir: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"run_dir = {run_dir!r} is in use by another process, and two would spoil each "
                        "other's files: wait for it, stop it, or give another run_dir.") from error


def _try_lock(folder: pathlib.Path) -> None:
    """Raises UserError if another process holds the folder."""
    if (folder / ".lock").exists():
        with (folder / ".lock").open("r+") as file:  # NFS locks no file that is open to be read alone
            _lock(file, str(folder))
