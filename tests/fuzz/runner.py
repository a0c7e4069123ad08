"""Tries damaged inputs one by one: each must be refused in a clear paragraph, or read for what it says.

What fails has a kind:
  traceback     an exception that no command turns into a paragraph
  hang          more than the target's `seconds`
  accepted      the target's judge says that the result is wrong
  outside       a file was touched that is no output
  unclear       the refusal is empty, endless, more than one paragraph, or does not say where
"""
import abc
import contextlib
import dataclasses
import io
import pathlib
import random
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from jaxrl_moe.types import UserError
from tests.fuzz.arena import Arena, TooSlow, limits

LONGEST = 3000     # characters of a refusal
ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ("jaxrl_moe", "bridges", "scripts")


class Target(abc.ABC):
    """One kind of input.

    Attributes:
      name: on the command line.
      writes: inputs that the call may change, such as logs that are cut back.
      system_errors: whether the command that makes this call prints errors of the operating system as
        paragraphs, as jaxrl_moe.cli.run does.
      named: whether a refusal has to name the damaged file, or its folder.
      seconds: most that a case may take; ten times what it takes when the machine is idle.
      share: how many of the inputs of a large run are this target's, relative to the others.
    """
    name: ClassVar[str]
    writes: ClassVar[tuple[str, ...]] = ()
    system_errors: ClassVar[bool] = False
    named: ClassVar[bool] = True
    seconds: ClassVar[float] = 15.0
    share: ClassVar[float] = 1.0

    @abc.abstractmethod
    def prepare(self, inputs: pathlib.Path) -> None:
        """Makes the valid inputs."""

    @abc.abstractmethod
    def mutate(self, rng: random.Random, inputs: pathlib.Path) -> tuple[dict[str, bytes | None], str]:
        """({file: its damaged content}, what was done); without files, what `call` shall do otherwise."""

    @abc.abstractmethod
    def call(self, arena: Arena) -> Any:
        """What a user's command does with the inputs."""

    @abc.abstractmethod
    def judge(self, arena: Arena, result: Any) -> str:
        """What is wrong with the result of an accepted input; empty where nothing is."""

    def close(self) -> None:  # noqa: B027 (most have nothing to free)
        """Frees what prepare made."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """What a case did wrong.

    Attributes:
      target, seed, index: repeat it.
      done: to the input.
      kind: see above.
      what: exception's type, or what the judge said.
      where: innermost line of ours.
      detail: the whole message or traceback.
    """
    target: str
    seed: int
    index: int
    done: str
    kind: str
    what: str
    where: str
    detail: str

    @property
    def group(self) -> tuple[str, str, str, str]:
        return self.target, self.kind, self.what, self.where

    @property
    def again(self) -> str:
        return (f"python -m tests.fuzz --target={self.target} --seed={self.seed} --first={self.index} "
                "--count=1")


@contextlib.contextmanager
def opened(target: Target) -> Iterator[Arena]:
    """An arena with the target's valid inputs, which must be accepted and right."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        arena = Arena(pathlib.Path(folder))
        try:
            target.prepare(arena.inputs)
            arena.keep()
            for _ in range(2):  # the second time nothing is compiled or imported any more
                with contextlib.redirect_stdout(io.StringIO()):
                    wrong = target.judge(arena, target.call(arena))
                assert not wrong, f"{target.name}: the valid input is wrong: {wrong}"
                arena.restore()
            yield arena
        finally:
            target.close()


def run(target: Target, arena: Arena, seed: int, index: int) -> Failure | None:
    """Tries one damaged input; the arena is as before afterwards."""
    rng = random.Random(f"{target.name} {seed} {index}")
    changed, done = target.mutate(rng, arena.inputs)
    arena.write(changed)
    before = arena.outside(target.writes)
    kind, what, where, detail = _tried(target, arena, changed)
    after = arena.outside(target.writes)
    if before != after:
        touched = sorted(name for name in before | after if before.get(name) != after.get(name))
        kind, what, where, detail = "outside", "a file was touched", "", ", ".join(touched)
    arena.restore()
    if kind == "outside":
        _mend(arena)
    return Failure(target.name, seed, index, done, kind, what, where, detail) if kind else None


def _mend(arena: Arena) -> None:
    """Files beside the inputs as they were."""
    for path in arena.root.iterdir():
        if path not in (arena.inputs, arena.output, arena.beside, arena.pristine):
            path.unlink() if path.is_file() else None
    (arena.beside / "notes.txt").write_text("mine\n")


def _tried(target: Target, arena: Arena, changed: dict) -> tuple[str, str, str, str]:
    quiet = contextlib.ExitStack()
    with quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            with limits(target.seconds):
                result = target.call(arena)
        except TooSlow as error:
            return "hang", str(error), _where(error), _trace(error)
        except UserError as error:
            return _unclear(str(error), [*changed, "inputs"] if changed and target.named else [], error)
        except OSError as error:
            if not target.system_errors:
                return "traceback", type(error).__name__, _where(error), _trace(error)
            return "", "", "", ""
        except Wrong as error:
            return "accepted", error.what, "", error.detail
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return "traceback", type(error).__name__, _where(error), _trace(error)
        wrong = target.judge(arena, result)
        return ("accepted", wrong.split(":")[0], "", wrong) if wrong else ("", "", "", "")


class Wrong(Exception):
    """Something that a call sees to be wrong before its result is there: what, and the text that shows it."""

    def __init__(self, what: str, detail: str = ""):
        super().__init__(what)
        self.what = what
        self.detail = detail


def _unclear(text: str, names: list[str], error: Exception) -> tuple[str, str, str, str]:
    faults = {"is empty": not text.strip(),
              "is endless": len(text) > LONGEST,
              "holds a traceback": "Traceback" in text,
              "cannot be printed": text != text.encode("utf-8", "replace").decode(),
              "holds control characters": any(ord(letter) < 32 and letter != "\n" for letter in text),
              "names no file": bool(names) and not any(pathlib.Path(name).name in text for name in names)}
    found = [name for name, present in faults.items() if present]
    if found:
        return "unclear", f"the refusal {found[0]}", _where(error), text[:600]
    return "", "", "", ""


def _where(error: BaseException) -> str:
    """The innermost line of the library on the way to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = pathlib.Path(frame.filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS:
            return f"{path.relative_to(ROOT)}:{frame.lineno} {frame.name}"
    return f"{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _trace(error: BaseException) -> str:
    lines = traceback.format_exception(error, limit=-6)
    return "".join(lines)[-2500:]
