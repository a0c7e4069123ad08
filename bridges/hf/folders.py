"""Folders of model files: found locally or on the Hugging Face hub, and written whole or not at all."""
import contextlib
import errno
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

from bridges.errors import BridgeError
from jaxrl_moe import partials
from jaxrl_moe.foreign_errors import first_sentence
from jaxrl_moe.outside import OutsideError, read_object
from jaxrl_moe.paths import shortened
from jaxrl_moe.system_errors import mend

# What travels with the weights: the tokenizer in all its spellings, its chat template, and the generation
# settings.
COMPANIONS = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json",
              "*.tiktoken", "chat_template*", "additional_chat_templates", "generation_config.json")
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve(name: str | os.PathLike) -> pathlib.Path:
    """Returns the folder called `name`, or downloads the hub repository of that name and returns its
    snapshot.

    Raises BridgeError when there is no such folder and the hub cannot deliver it.
    """
    folder = as_path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(str(name)):
        raise BridgeError(f"{name} is not a folder, nor a hub name such as Qwen/Qwen3-0.6B. Give the folder "
                          "that holds config.json.")
    return _download(str(name))


def as_path(name: str | os.PathLike) -> pathlib.Path:
    """The path, ~ expanded; raises BridgeError where the system can have none such, or forbids to look."""
    try:
        path = pathlib.Path(name).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, ValueError, RuntimeError) as error:
        raise BridgeError(f"{shortened(str(name))} is no path that can be read: "
                          f"{getattr(error, 'strerror', None) or error}. Give another.") from error
    return path


def plain_name(name: str, where: str) -> str:
    """Returns the name of a file beside the one that names it; raises BridgeError where it leads
    elsewhere."""
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise BridgeError(f"{where} names the file {name!r}; a plain file name is needed, of a file in the "
                          "same folder.")
    return name


def _download(name: str) -> pathlib.Path:
    import huggingface_hub
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub client raises its own, its transport's and the system's errors
        raise BridgeError(f"{name} is no local folder, and the Hugging Face hub did not deliver it: "
                          f"{first_sentence(error)} Check the name and the network (HF_HUB_OFFLINE, HF_TOKEN "
                          "for gated models), or give a local folder.") from error


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Parses a JSON object; raises BridgeError that names the file."""
    try:
        return read_object(path)
    except OutsideError as error:
        raise BridgeError(str(error)) from error


def copy_companions(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies tokenizer files, chat template and generation_config.json."""
    for pattern in COMPANIONS:
        for path in source.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, target / path.name, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, target / path.name)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Yields a temporary folder beside `path`, and renames it to `path` when the block succeeds.

    When the block fails the temporary folder is removed and `path` is as before; what a killed process left
    there is removed by the next that writes beside it. Raises BridgeError if `path` exists and `overwrite` is
    false, or if the disk is full.
    """
    target = output_path(path)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partials.tidy(target.parent)
        if target.exists() and not target.is_dir():
            raise BridgeError(f"{target} is a file; the output must be a folder.")
        if target.exists() and any(target.iterdir()) and not overwrite:
            raise BridgeError(f"{target} exists and is not empty. Choose another output, or ask to overwrite "
                              "it (--overwrite).")
        with partials.claimed(target, pathlib.Path.mkdir) as partial:
            yield partial
            _sync(partial)
            with partials.set_aside(target, partial):
                partial.rename(target)


@contextlib.contextmanager
def new_file(path: str | os.PathLike, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """As new_folder, with a file; what stands at `path` is never replaced if it is no regular file."""
    target = output_path(path)
    with _told(target):
        check_new_file(target, overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        partials.tidy(target.parent)
        with partials.claimed(target, lambda partial: partial.touch(exist_ok=False)) as partial:
            yield partial
            _sync_file(partial)
            partial.replace(target)


def check_new_file(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Raises BridgeError where new_file would refuse the path."""
    target = output_path(path)
    if target.exists() and not target.is_file():
        raise BridgeError(f"{target} is no regular file, and nothing else is written to. Name a file.")
    if target.exists() and not overwrite:
        raise BridgeError(f"{target} exists. Choose another output, or ask to overwrite it (--overwrite).")


def output_path(path: str | os.PathLike) -> pathlib.Path:
    """Where an output of that name comes to lie, links followed."""
    target = pathlib.Path(os.path.realpath(as_path(path)))
    if not target.name:
        raise BridgeError(f"{path} cannot be written anew. Name an output inside it.")
    return target


@contextlib.contextmanager
def _told(target: pathlib.Path) -> Iterator[None]:
    """Turns errors of the system into BridgeErrors that name the output."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BridgeError(f"The disk is full: {target} could not be written ({error.strerror}), and "
                              "nothing of it was kept. Free some space or choose another output.") from error
        raise BridgeError(f"{target} could not be written: {error}. {mend(error)}") from error


def _sync(folder: pathlib.Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _sync_file(path)


def _sync_file(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
