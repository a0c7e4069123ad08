"""The problem that a data row holds."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.kernels.problem_files import ProblemFile, read
from jaxrl_moe.spelling import named, quoted
from jaxrl_moe.types import UserError


def problem_of(row: Mapping[str, Any]) -> ProblemFile:
    """The file in `label`, judged at the sizes of `extra_info.sizes` where there are any, else at its own.

    Raises:
      UserError: there is no problem, or the sizes are none of its own.
    """
    source = row.get("label")
    if not isinstance(source, str) or not source.strip():
        raise UserError("A row of triton_kernels needs the reference's source in `label`, but has "
                        f"{quoted(source)} (columns: {named(row)}).")
    return read(source, "The reference in `label`", _given_sizes(row))


def _given_sizes(row: Mapping[str, Any]) -> list[Any] | None:
    extra = row.get("extra_info")
    given = extra.get("sizes") if isinstance(extra, Mapping) else None
    if given is not None and (not isinstance(given, list) or not given):
        raise UserError(f"`extra_info.sizes` is {quoted(given)}: give a list of mappings, as "
                        "[{\"ROWS\": 5}].")
    # Rows of a parquet file share their keys, and those that a row has not are null.
    return given and [_without_nulls(each) for each in given]


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: each for name, each in value.items() if each is not None}
