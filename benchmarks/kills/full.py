"""A disk that becomes full while a run writes to a place: `python -m benchmarks.kills.full PLACE SCRIPT
OPTIONS` is the script, but for what happens there.

A file that Python opens gets the descriptor of /dev/full in the place of its own: the system itself then says
that there is no space, to whoever writes. Of files that libraries write by themselves the folder is watched:
when it is made, the disk that the run lies on, a tmpfs, is given the size that it has in use.
"""
import builtins
import contextlib
import io
import os
import pathlib
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

ROOMY = "2g"  # of the tmpfs, of which a run needs a small part
# place: (what is looked for in the path, whether that is a folder whose making fills the disk, what the
# message must name)
PLACES = {
    "data": (r"run/\.?data[^/]*/train\.jsonl", False, r"train\.jsonl"),
    "metrics": (r"run/metrics\.jsonl$", False, r"metrics\.jsonl"),
    "trajectories": (r"run/trajectories\.jsonl$", False, r"trajectories\.jsonl"),
    "TensorBoard": (r"run/tensorboard/", False, r"tensorboard"),
    "checkpoint": (r"run/checkpoints/.*orbax-checkpoint-tmp", True, r"run/checkpoints"),
    "SFT checkpoint": (r"run/sft/checkpoints/.*orbax-checkpoint-tmp", True, r"run/sft/checkpoints"),
    "model": (r"run/\.?model\.[^/]*$", True, r"run/model"),
    "adapter": (r"run/\.?adapter\.[^/]*$", True, r"run/adapter"),
    "plot": (r"run/[^/]*reward_curve[^/]*$", False, r"reward_curve\.png"),
    "settings": (r"run/config\.json", False, r"config\.json")}


def files(pattern: str) -> Callable[..., Any]:
    """open() whose files at such paths are on a full disk."""
    opened = io.open

    def opening(file: Any, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        stream = opened(file, mode, *arguments, **settings)
        if set("wax+") & set(mode) and isinstance(file, (str, os.PathLike)) and re.search(pattern, str(file)):
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, stream.fileno())
            os.close(full)
        return stream
    return opening


def folders(pattern: str) -> Callable[..., None]:
    """os.mkdir() that leaves no space on the disk once such a folder is made."""
    made = os.mkdir

    def making(path: Any, *arguments: Any, **settings: Any) -> None:
        made(path, *arguments, **settings)
        if re.search(pattern, str(path)):
            resize(pathlib.Path(path), None)
    return making


def resize(path: pathlib.Path, size: str | None) -> None:
    """Gives the tmpfs that the path lies on a size; None: what is in use there."""
    mount = next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.is_mount())
    if size is None:
        told = os.statvfs(mount)
        size = str((told.f_blocks - told.f_bfree) * told.f_frsize)
    subprocess.run(["mount", "-o", f"remount,size={size}", mount], check=True)


@contextlib.contextmanager
def disk(folder: pathlib.Path) -> Iterator[bool]:
    """A tmpfs at the folder; yields whether this machine lets us make one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", folder]
    try:
        made = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        made = False
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "--lazy", folder], check=True)


def main(place: str, script: str) -> None:
    """Runs the script with what is left of the command line."""
    pattern, is_folder, _ = PLACES[place]
    if is_folder:
        os.mkdir = folders(pattern)
    else:
        builtins.open = io.open = files(pattern)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(pathlib.Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
