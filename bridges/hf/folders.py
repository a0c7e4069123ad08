"""Folders of model files: found locally or on the Hugging Face hub, and written whole or not at all."""
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

from bridges.errors import BridgeError
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
    folder = pathlib.Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not HUB_NAME.fullmatch(str(name)):
        raise BridgeError(f"{name} is not a folder, nor a hub name such as Qwen/Qwen3-0.6B. Give the folder "
                          "that holds config.json.")
    return _download(str(name))


def _download(name: str) -> pathlib.Path:
    import huggingface_hub
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the hub client raises its own, its transport's and the system's errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BridgeError(f"{name} is no local folder, and the Hugging Face hub did not deliver it: {reason} "
                          "Check the name and the network (HF_HUB_OFFLINE, HF_TOKEN for gated models), or "
                          "give a local folder.") from error


def read_json(path: pathlib.Path) -> dict:
    """Parses a JSON object; raises BridgeError that names the file."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BridgeError(f"{path} does not exist; a model folder needs it.") from error
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BridgeError(f"{path} holds {type(value).__name__}, a JSON object is needed.")
    return value


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

    When the block fails the temporary folder is removed and `path` is as before. Raises BridgeError if `path`
    exists and `overwrite` is false, or if the disk is full.
    """
    target = pathlib.Path(path).expanduser().absolute()
    _refuse_existing(target, overwrite)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    _tidy_after_the_dead(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync(partial)
        _swap(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BridgeError(f"The disk is full: {target} could not be written ({error.strerror}), and "
                              "nothing of it was kept. Free some space or choose another output.") from error
        raise BridgeError(f"{target} could not be written: {error}. {mend(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tidy_after_the_dead(target: pathlib.Path) -> None:
    """Removes what processes that were killed left beside `target`; one killed between two renames left the
    folder itself set aside, which is put back."""
    for left in target.parent.glob(f".{target.name}.partial-*"):
        number, _, kind = left.name.rpartition("partial-")[2].partition(".")
        if not number.isdigit() or _runs(int(number)):
            continue
        if kind == "old" and not target.exists():
            left.rename(target)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _refuse_existing(target: pathlib.Path, overwrite: bool):
    if target.exists() and not target.is_dir():
        raise BridgeError(f"{target} is a file; the output must be a folder.")
    if target.exists() and any(target.iterdir()) and not overwrite:
        raise BridgeError(f"{target} exists and is not empty. Choose another output, or ask to overwrite it "
                          "(--overwrite).")


def _swap(partial: pathlib.Path, target: pathlib.Path):
    """Puts `partial` in the place of `target`; an old folder there is set aside first and removed
    afterwards."""
    old = partial.with_name(partial.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: pathlib.Path):
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
