"""Problems from wherever they stand: our own, KernelBench's files and rows, KernelBook's rows, and rows that
are written already."""
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxrl_moe.data.rows import Row, read_rows
from jaxrl_moe.envs.kernels import kernelbook
from jaxrl_moe.envs.kernels.problem_files import read
from jaxrl_moe.outside import kind
from jaxrl_moe.spelling import named
from jaxrl_moe.types import UserError

OURS = "ours"
HELD_OUT = 5  # one of so many
_FOLDER = pathlib.Path(__file__).parent / "problems"
_LEVEL = re.compile(r"level[_-]?(\d+)")


@dataclasses.dataclass(frozen=True)
class KernelProblem:
    """Attributes:
      data_source: the set that it is of.
      level: of its set; 0: it has none.
      number: within the level.
      name: such as "softmax".
      source: of its file.
      solution: a source of ModelNew; empty: none is known.
      messages: of the prompt that its row has already; empty: our own.
    """
    data_source: str
    level: int
    number: int
    name: str
    source: str
    solution: str = ""
    messages: tuple[Mapping[str, str], ...] = ()

    @property
    def instance_id(self) -> str:
        """That no other problem of its set has."""
        return f"{self.data_source}/level{self.level}/{self.number}_{self.name}"

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the held-out ones: decided by its reference, so that the same one under two
        names is on one side."""
        digest = hashlib.sha256("".join(self.source.split()).encode()).digest()
        return int.from_bytes(digest[:8], "big") % HELD_OUT == 0


@dataclasses.dataclass
class LeftOut:
    """Rows that no problem could be made of: the reasons, of which the first few are told."""
    reasons: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return "".join(f"\n  left out: {reason}" for reason in self.reasons[:3]) + (
            f"\n  and {len(self.reasons) - 3} more" if len(self.reasons) > 3 else "")


def problems(place: str, left_out: LeftOut, split: str = "train") -> Iterator[KernelProblem]:
    """Yields the problems of a set.

    Args:
      place: "ours"; a folder of KernelBench, with its level1/1_name.py; or rows in a file or hub data set, of
        KernelBench (code, level, name, problem_id), KernelBook (python_code, triton_code, entry_point) or
        those of training (label).
      left_out: gets the reasons for rows of KernelBook that no problem can be made of; others raise.
      split: of a folder or hub data set of rows, as its files have it.

    Raises:
      UserError: nothing is there, or a file or row is no problem.
    """
    folder = pathlib.Path(place)
    if place == OURS:
        yield from _files(_FOLDER, "jaxrl_moe")
    elif folder.is_dir() and any(folder.rglob("level*/*.py")):
        yield from _files(folder, "kernelbench")
    else:
        for row in read_rows(place, split):
            made = _of_row(row, left_out)
            if made is not None:
                yield made


def _files(folder: pathlib.Path, data_source: str) -> Iterator[KernelProblem]:
    """Files level1/1_name.py, in order."""
    def order(path: pathlib.Path) -> tuple[int, int]:
        return int(_LEVEL.fullmatch(path.parent.name)[1]), int(re.match(r"\d+", path.name)[0])

    solutions = folder / "solutions"
    paths = [path for path in folder.rglob("level*/*.py") if _LEVEL.fullmatch(path.parent.name)
             and re.match(r"\d", path.name) and not path.is_relative_to(solutions)]
    for path in sorted(paths, key=order):
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from error
        read(source, str(path))
        solved = solutions / path.parent.name / path.name
        level, number = order(path)
        yield KernelProblem(data_source, level, number, re.sub(r"^\d+_?", "", path.stem), source,
                            solved.read_text() if solved.is_file() else "")


def _of_row(row: Row, left_out: LeftOut) -> KernelProblem | None:
    for column, made in _FORMS.items():
        if row.values.get(column) is not None:
            return made(row, left_out)
    raise UserError(f"{row.where} is no row of problems (columns: {named(row.values)}): KernelBench's have "
                    "`code`, KernelBook's `python_code`, and those of training `label`.")


def _kernelbench(row: Row, left_out: LeftOut) -> KernelProblem:
    source = _text(row, "code")
    read(source, row.where)
    return KernelProblem("kernelbench", _whole(row.values.get("level")), _whole(row.values.get("problem_id")),
                         _name(row.values.get("name")), source)


def _kernelbook(row: Row, left_out: LeftOut) -> KernelProblem | None:
    """None, and a reason, where none can be made: its modules were found, and not written to be problems."""
    entry = _text(row, "entry_point")
    try:
        source = kernelbook.reference(_text(row, "python_code"), entry, row.where)
        read(source, row.where)
        solution = _text(row, "triton_code") if row.values.get("triton_code") else ""
        solution = kernelbook.answer(solution, entry, f"{row.where}: triton_code") if solution else ""
    except UserError as error:
        left_out.reasons.append(str(error))
        return None
    number = row.values.get("uuid")
    return KernelProblem("kernelbook", 0, _whole(number, row.index), entry, source, solution)


def _written(row: Row, left_out: LeftOut) -> KernelProblem:
    """A row of training, taken as it is."""
    source = _text(row, "label")
    read(source, row.where)
    extra = row.values.get("extra_info")
    extra = extra if isinstance(extra, Mapping) else {}
    messages = row.values.get("prompt")
    messages = tuple(messages) if isinstance(messages, list) else ()
    return KernelProblem(str(extra.get("data_source") or "rows"), _whole(extra.get("level")),
                         _whole(extra.get("problem_id"), row.index), _name(extra.get("problem_name")), source,
                         messages=messages)


_FORMS: Mapping[str, Callable[[Row, LeftOut], KernelProblem | None]] = {
    "label": _written, "python_code": _kernelbook, "code": _kernelbench}


def _text(row: Row, column: str) -> str:
    value = row.values.get(column)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{row.where}: `{column}` is {kind(value)}, and a text is needed.")
    return value


def _whole(value: Any, default: int = 0) -> int:
    """A number, which may be spelt."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    return value if type(value) is int and value >= 0 else default


def _name(value: Any) -> str:
    return re.sub(r"^\d+_|\.py$", "", value) if isinstance(value, str) and value else "problem"
