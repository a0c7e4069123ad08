"""Rows of data files: jsonl, json and parquet, from a file, a folder or a hub data set."""
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxrl_moe import outside
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.spelling import cut, escaped, quoted
from jaxrl_moe.types import UserError

HUB_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(:(?P<subset>[\w.-]+))?")
# What follows a split in a file's name: nothing, part I of N (and a hash), or a number.
_PART = r"(-(?P<part>\d{5})-of-(?P<parts>\d{5})(-[0-9a-f]{16})?|[-_.]?(?P<number>\d+))?"


class DataError(UserError):
    """A data file that cannot be read or a row that cannot be used; the message names the file and the
    row."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One data row as read.

    Attributes:
      values: its columns, all of them.
      where: file and row, for messages; the row of a jsonl file is its line, else rows count from 1.
      index: its position in the data set, from 0.
      filled: nested objects read null for keys that they had not, as all rows of a parquet file share them.
      env: the name that its file has among several; empty: it has none.
    """
    values: Mapping[str, Any]
    where: str
    index: int
    filled: bool = False
    env: str = ""


def read_rows(path: str, split: str = "train") -> list[Row]:
    """Reads all rows of a data set, in the files' order.

    Args:
      path: a .jsonl, .json or .parquet file; a folder that holds one per split; or a hub data set such as
        openai/gsm8k, with `:subset` where it has several.
      split: which files of a folder or a hub data set to take; a single file is taken whole.

    Raises:
      DataError: nothing is there, or a file is not what its name says.
    """
    rows = []
    for name, file in _locate(path, split):
        rows += [Row(values, f"{name}, row {number}", len(rows) + offset, file.suffix == ".parquet")
                 for offset, (number, values) in enumerate(_read_file(file, name))]
    if not rows:
        raise DataError(f"The data set {path!r} has no rows. Check the path and the split ({split!r}).")
    return rows


def read_files(files: Mapping[str, str], split: str = "train") -> dict[str, list[Row]]:
    """Reads the rows of several files, numbered through all of them.

    Args:
      files: {name: path}. Each row gets its file's name as its column `env`, unless that is empty.
      split: as read_rows.

    Raises:
      DataError: as read_rows; or a row's own `env` is another.
    """
    read: dict[str, list[Row]] = {}
    first = 0
    for name, path in files.items():
        rows = read_rows(path, split)
        read[name] = [_of_env(row, name, first) for row in rows] if name else rows
        first += len(rows)
    return read


def _of_env(row: Row, name: str, first: int) -> Row:
    own = row.values.get("env")
    if own not in (None, name):
        raise DataError(f"{row.where} has env = {quoted(own)}, and its file is that of {name!r}: leave the "
                        "column out, or name the file as its rows are named.")
    return dataclasses.replace(row, values={**row.values, "env": name}, index=first + row.index, env=name)


def _locate(path: str, split: str) -> list[tuple[str, pathlib.Path]]:
    """The (name for messages, local file) pairs of a data set."""
    if not path:
        raise DataError("There is no data file to read: the path (data.path, data.eval_path or sft.path) is "
                        "empty.")
    local = pathlib.Path(path)
    if local.is_file():
        return [(str(local), local)]
    if local.is_dir():
        names = sorted(str(file.relative_to(local)) for file in local.rglob("*") if file.is_file())
        return [(str(local / name), local / name) for name in choose_files(names, split, None, path)]
    hub = HUB_NAME.fullmatch(path)
    if local.suffix in _READERS or not hub:
        raise DataError(f"There is no data file {path!r}. Give a jsonl, json or parquet file, a folder of "
                        "them, or a hub data set such as openai/gsm8k.")
    return _download(hub["repo"], hub["subset"], split)


def _download(repo: str, subset: str | None, split: str) -> list[tuple[str, pathlib.Path]]:
    """Fetches a split's files from the hub (or finds them in its cache)."""
    import huggingface_hub
    try:
        names = huggingface_hub.list_repo_files(repo, repo_type="dataset")
        chosen = choose_files(names, split, subset, repo)
        files = [huggingface_hub.hf_hub_download(repo, name, repo_type="dataset") for name in chosen]
    except DataError:
        raise
    except Exception as error:  # network, authorisation and absence are unrelated classes in the hub client
        raise DataError(f"The hub data set {repo!r} cannot be fetched: {error} Check the name and the "
                        "network, or download it and give the folder's path.") from error
    return [(f"{repo}/{name}", pathlib.Path(file)) for name, file in zip(chosen, files)]


def choose_files(names: Iterable[str], split: str, subset: str | None, source: str) -> list[str]:
    """Returns those of a data set's file names that hold a split.

    `train.jsonl`, `train-00000-of-00002.parquet` (with a hash behind it, too) and `train_1.json` hold the
    split "train", and `train_old.jsonl` does not. Where several folders hold it and no subset is named, the
    folder `main` or `default` is taken.

    Raises:
      DataError: no file holds the split, several folders or files of different forms do, or a part is
        missing.
    """
    pattern = re.compile(rf"(.*/)?{re.escape(split)}{_PART}({'|'.join(map(re.escape, _READERS))})")
    names = list(names)
    matching = sorted(name for name in names if pattern.fullmatch(name))
    folders = sorted({str(pathlib.PurePosixPath(name).parent) for name in matching})
    if subset is not None:
        wanted = [folder for folder in folders if pathlib.PurePosixPath(folder).name == subset]
    else:
        wanted = [folder for folder in folders if len(folders) == 1 or folder in ("main", "default")]
    if not matching or (subset is not None and not wanted):
        others = [name for name in names if pathlib.PurePosixPath(name).suffix in _READERS]
        there = f" (there are {', '.join(map(repr, others[:5]))})" if others else ""
        raise DataError(f"The data set {source!r} has no jsonl, json or parquet file of the split {split!r}"
                        f"{f' in a folder {subset!r}' if subset else ''}{there}. Choose another split, or "
                        "give a file's path.")
    if len(wanted) != 1:
        raise DataError(f"The data set {source!r} has the split {split!r} in several folders: "
                        f"{', '.join(folders)}. Choose one by giving its path, or for a hub data set by the "
                        "form owner/name:folder.")
    chosen = [name for name in matching if str(pathlib.PurePosixPath(name).parent) == wanted[0]]
    _check_parts({name: pattern.fullmatch(name) for name in chosen}, source, split)
    return chosen


def _check_parts(files: Mapping[str, re.Match[str]], source: str, split: str) -> None:
    """Refuses files of which some may hold the rows of the others again, and sets of which one is missing."""
    forms = {(pathlib.PurePosixPath(name).suffix, match["parts"], match["number"] is not None): name
             for name, match in files.items()}
    if len(forms) > 1:
        raise DataError(f"The data set {source!r} has the split {split!r} in files of different forms: "
                        f"{' and '.join(sorted(forms.values()))}. Rows that stand in both would be read "
                        "twice: give the path of one file, or remove the others.")
    (_, parts, _), = forms
    numbers = sorted(int(match["part"]) for match in files.values() if parts)
    if parts and numbers != list(range(int(parts))):
        raise DataError(f"The data set {source!r} has {len(numbers)} of the {int(parts)} parts of the split "
                        f"{split!r}: {', '.join(list(files)[:5])}. Fetch the data set again.")


def _read_file(file: pathlib.Path, name: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The (row number, values) pairs of one file; the number is the line in a jsonl file, else counts from
    1."""
    if file.suffix not in _READERS:
        raise DataError(f"{name} has an unknown form. Data files end in {', '.join(_READERS)}.")
    try:
        rows = _READERS[file.suffix](file, name)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {cut(escaped(str(error)))}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    for number, values in rows:
        if not isinstance(values, dict):
            raise DataError(f"{name}, row {number} is {outside.kind(values)}, not an object with columns.")
    return rows


def _read_jsonl(file: pathlib.Path, name: str) -> list[tuple[int, Any]]:
    rows = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip(outside.BLANKS):
                continue
            try:
                rows.append((number, outside.parse(line, "it")))
            except OutsideError as error:
                raise DataError(f"{name}, row {number} is not JSON as rows need it: {error} A jsonl file has "
                                "one object a line.") from error
    return rows


def _read_json(file: pathlib.Path, name: str) -> list[tuple[int, Any]]:
    try:
        values = outside.parse(file.read_text(encoding="utf-8-sig"), "it")
    except OutsideError as error:
        raise DataError(f"{name} is not JSON as rows need it: {error} If it has one object a line, name it "
                        ".jsonl.") from error
    if not isinstance(values, list):
        raise DataError(f"{name} holds {outside.kind(values)}; a json data file is a list of objects.")
    return list(enumerate(values, 1))


def _read_parquet(file: pathlib.Path, name: str) -> list[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet
    try:
        return list(enumerate(pyarrow.parquet.read_table(file).to_pylist(), 1))
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is not a whole parquet file: {cut(escaped(str(error)))}. Fetch or write it "
                        "again.") from error


_READERS: Mapping[str, Callable[[pathlib.Path, str], Sequence[tuple[int, Any]]]] = {
    ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
