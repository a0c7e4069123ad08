"""Where the prompts and conversations stand: one file, several by name, or instances by number."""
import collections
from collections.abc import Callable, Iterator
from typing import Any

from jaxrl_moe.checks.problems import told
from jaxrl_moe.config import Config, DataSection, value_of
from jaxrl_moe.config.named import NamedError
from jaxrl_moe.data.seeds import seeds_of
from jaxrl_moe.types import Problem

# Settings of which at most one says what is read.
_ALTERNATIVES = (("data.files", "data.path", "data.seeds"),
                 ("data.eval_files", "data.eval_path", "data.eval_seeds"), ("sft.files", "sft.path"))


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields what is wrong with the settings that name files, and with what goes with them."""
    data = config.data
    for seeds in ("seeds", "eval_seeds"):
        given = getattr(data, seeds)
        if given:
            yield from told(f"data.{seeds}", given, lambda given=given: seeds_of(given))
    for names in _ALTERNATIVES:
        yield from _both(config, names)
    if data.weights and not data.files:
        yield Problem("data.weights", data.weights, "has no effect, as data.files names no files",
                      "name several by data.files, or leave it out")
    elif data.files:
        yield from _named("data.weights", data.weights, lambda: data.shares)
    yield from _of_generation(data)


def _both(config: Config, names: tuple[str, ...]) -> Iterator[Problem]:
    """Yields those of the settings that are given beside another one."""
    given = [name for name in reversed(names) if value_of(config, name)]
    for name, other in zip(given, given[1:]):
        what = "conversations" if name.startswith("sft") else "prompts"
        beside = value_of(config, other)
        yield Problem(name, value_of(config, name), f"and {other} = {beside!r} both say what the {what} are",
                      "leave one of them out")


def _of_generation(data: DataSection) -> Iterator[Problem]:
    if not data.generate:
        return
    if data.seeds:
        yield Problem("data.generate", data.generate, "has no effect, as the prompts are those of data.seeds",
                      "leave it out, or name a file by data.path")
        return
    refused = list(_named("data.generate", data.generate, lambda: data.generated))
    yield from refused
    if refused:
        return
    folders = collections.Counter(folder for _, folder in data.generated.values())
    for folder, count in folders.items():
        if count > 1:
            yield Problem("data.generate", data.generate, f"would make {count} sets of data in the folder "
                          f"{str(folder)!r}", "let each of data.files lie in a folder of its own")


def _named(field: str, value: Any, read: Callable[[], Any]) -> Iterator[Problem]:
    try:
        read()
    except NamedError as error:
        yield Problem(field, value, error.why, error.mend)
