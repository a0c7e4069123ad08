"""What errors of Python and of libraries mean to whoever started us, where they say it in words of their
own."""
import importlib.metadata
import os
import pathlib
import re
import traceback

from jaxrl_moe.types import UserError

_XLA = ("JaxRuntimeError", "XlaRuntimeError")
_BACKENDS = "jax/_src/xla_bridge.py"
_MEMORY = ("Lower what lies in memory at once (train.tokens_per_micro_batch, rollout.slots, "
           "rollout.max_tokens, or --slots where it is an option), or use more devices; scripts/plan.py says "
           "what fits.")


def known(error: BaseException) -> UserError | None:
    """The error with its mend; None for one that is not known here."""
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return UserError(f"The memory of this machine is used up{f': {message}' if message else ''}. Close "
                         f"other programs. {_MEMORY}")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UserError(f"There is no module named {error.name!r} here. {_installation(error.name)}")
    if isinstance(error, ImportError):
        return UserError(f"{message}. The installation does not fit together: {_installation('')}")
    if isinstance(error, RuntimeError) and "home directory" in message:
        return UserError("A path begins with ~, and the home folder that it stands for cannot be found. "
                         "Write the path out, or set HOME.")
    if type(error).__name__ in _XLA:
        return _of_xla(message)
    if isinstance(error, (RuntimeError, AssertionError)) and _raised_in(error, _BACKENDS):
        return _no_platform(message)
    return None


def first_sentence(error: BaseException) -> str:
    """What a library's error says first, ending in one full stop; libraries append advice, requests' numbers
    and stacks, which would bury our own."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not re.search(r"Request ID|^Traceback", line)]
    line = (told or [type(error).__name__])[0]
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", line)[0].rstrip(" .,:;") + "."


def crash(error: BaseException) -> str:
    """An exception of others' code for a message: its class, its text, and the file and line that it comes
    from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({pathlib.Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def _installation(module: str) -> str:
    """How to install a module: by our extra, if one has it."""
    root = module.partition(".")[0]
    for requirement in _requirements():
        name, _, marker = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        package = re.match(r"[\w.-]+", name)[0].replace("-", "_")
        if extra and not extra[1].startswith("test") and package.lower() == root.lower():
            return f'Install the extra `{extra[1]}`: pip install -e ".[{extra[1]}]".'
    return "Install jaxrl_moe with what it needs: pip install -e . in its folder."


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("jaxrl-moe") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _of_xla(message: str) -> UserError | None:
    if "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower():
        return UserError(f"A device's memory is used up: {message[:300]}. {_MEMORY}")
    return None


def _no_platform(message: str) -> UserError:
    chosen = os.environ.get("JAX_PLATFORMS", "")
    setting = f"JAX_PLATFORMS={chosen}" if chosen else "JAX"
    reason = f": {message[:300]}" if message else ""
    return UserError(f"{setting} finds no device{reason}. Set JAX_PLATFORMS=cpu, or leave it unset; a GPU "
                     'needs its driver and the extra `cuda`: pip install -e ".[cuda]".')


def _raised_in(error: BaseException, file: str) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.endswith(file) for frame in frames)
