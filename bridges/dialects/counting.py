"""Passes over data as steps: the rows are counted where the file is at hand."""
import pathlib
from typing import Any

from bridges.dialects.kinds import Invalid
from jaxrl_moe.data.rows import read_rows
from jaxrl_moe.types import Problem


def steps_of_passes(key: str, passes: int, path: str | None, prompts: int) -> dict[str, Any]:
    """train.steps of so many passes in batches of so many prompts; what does not fill a pass's last batch is
    left out.

    Raises:
      Invalid: a pass has not even one batch.
    """
    if not path or not pathlib.Path(path).is_file():
        return {"train.steps": Problem("train.steps", None, f"is not known: {key} = {passes} counts passes "
                                       f"over data that are not a file here ({path or 'none are given'})",
                                       "give --config.train.steps=N")}
    rows = len(read_rows(path))
    if rows < prompts:
        raise Invalid(f"makes no step: {path} has {rows} rows, and a batch takes {prompts} prompts",
                      "take smaller batches, or more data")
    return {"train.steps": passes * (rows // prompts)}
