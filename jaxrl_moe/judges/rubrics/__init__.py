"""Rubrics as files: those that come with the library, and a user's own."""
import pathlib

from jaxrl_moe.judges.rubric import Rubric, rubric_of
from jaxrl_moe.outside import read_object
from jaxrl_moe.types import UserError

SHIPPED = pathlib.Path(__file__).parent


def read_rubrics(path: str | pathlib.Path = SHIPPED) -> dict[str, Rubric]:
    """{id: rubric} of a JSON file, or of all those in a folder.

    Raises:
      UserError: there is none, a file holds no rubric or one whose weights add up to more than 1, or two
        have the same id.
    """
    path = pathlib.Path(path)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"The folder {path} has no rubrics: it needs files NAME.json of the form "
                        '{"id", "criteria": [{id, weight, scale, description}]}.')
    rubrics: dict[str, Rubric] = {}
    for file in files:
        rubric = rubric_of(read_object(file), str(file))
        rubric.check_weights()
        if rubric.id in rubrics:
            raise UserError(f"{file}: another file of {path} has the rubric {rubric.id!r} already.")
        rubrics[rubric.id] = rubric
    return rubrics
