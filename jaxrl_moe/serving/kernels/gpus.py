"""The GPUs of this machine, as NVIDIA's driver tells of them."""
import subprocess
from typing import NamedTuple

from jaxrl_moe.spelling import cut, escaped, named, quoted
from jaxrl_moe.types import UserError

_COMMAND = ("nvidia-smi", "--query-gpu=index,name,compute_cap", "--format=csv,noheader")


class Gpu(NamedTuple):
    """name: as "NVIDIA H100 80GB HBM3"; capability: as 90."""
    number: int
    name: str
    capability: int


def gpus_of(setting: str) -> list[Gpu]:
    """Those that --gpus names by their numbers with commas between; none where it is empty.

    Raises:
      UserError: it names what is no number, one twice, or one that is not here.
    """
    if not setting.strip():
        return []
    numbers = [each.strip() for each in setting.split(",")]
    sound = all(each.isascii() and each.isdigit() for each in numbers)
    if not sound or len({int(each) for each in numbers}) < len(numbers):
        raise UserError(f"--gpus={quoted(setting)}: give their numbers with commas between, each once, as "
                        "0,1.")
    there = {gpu.number: gpu for gpu in _all()}
    absent = [each for each in numbers if int(each) not in there]
    if absent:
        raise UserError(f"--gpus={quoted(setting)}: this machine has no GPU {named(absent)}; it has: "
                        f"{named(there)}. Without the option candidates are judged under Triton's "
                        "interpreter.")
    return [there[int(each)] for each in numbers]


def _all() -> list[Gpu]:
    """All GPUs; none where there is no driver.

    Raises:
      UserError: the driver does not answer, or says what cannot be read.
    """
    try:
        told = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"nvidia-smi, which tells of the GPUs, does not answer: {error}") from error
    if told.returncode:
        said = cut(escaped((told.stderr or told.stdout).strip()))
        raise UserError(f"nvidia-smi, which tells of the GPUs, fails: {said}")
    return [_gpu(line) for line in told.stdout.splitlines() if line.strip()]


def _gpu(line: str) -> Gpu:
    try:
        number, name, capability = (part.strip() for part in line.split(","))
        major, minor = capability.split(".")
        return Gpu(int(number), name, 10 * int(major) + int(minor))
    except ValueError as error:
        raise UserError("nvidia-smi tells of a GPU in words that are not known here: "
                        f"{quoted(line)}") from error
