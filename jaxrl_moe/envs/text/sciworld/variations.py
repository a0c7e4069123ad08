"""ScienceWorld's tasks and their variations, as the game counts them and as AgentGym numbers its rows."""
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrl_moe.envs.episode_ids import episode_number
from jaxrl_moe.spelling import did_you_mean, named, quoted
from jaxrl_moe.types import UserError

# {task: variations}, in the order of the lessons
TASKS: Mapping[str, int] = {
    "boil": 30, "melt": 30, "freeze": 30, "change-the-state-of-matter-of": 30,
    "use-thermometer": 540, "measure-melting-point-known-substance": 436,
    "measure-melting-point-unknown-substance": 300,
    "power-component": 20, "power-component-renewable-vs-nonrenewable-energy": 20,
    "test-conductivity": 900, "test-conductivity-of-unknown-substances": 600,
    "find-living-thing": 300, "find-non-living-thing": 300, "find-plant": 300, "find-animal": 300,
    "grow-plant": 126, "grow-fruit": 126,
    "chemistry-mix": 32, "chemistry-mix-paint-secondary-color": 36,
    "chemistry-mix-paint-tertiary-color": 36,
    "lifespan-longest-lived": 125, "lifespan-shortest-lived": 125,
    "lifespan-longest-lived-then-shortest-lived": 125,
    "identify-life-stages-1": 14, "identify-life-stages-2": 10,
    "inclined-plane-determine-angle": 168, "inclined-plane-friction-named-surfaces": 1386,
    "inclined-plane-friction-unnamed-surfaces": 162,
    "mendelian-genetics-known-plant": 120, "mendelian-genetics-unknown-plant": 480}
# AgentGym leaves these out of its numbers; rows name them by task and variation.
UNNUMBERED = ("grow-plant", "grow-fruit", "inclined-plane-determine-angle",
              "inclined-plane-friction-named-surfaces", "inclined-plane-friction-unnamed-surfaces",
              "mendelian-genetics-known-plant", "mendelian-genetics-unknown-plant")
NUMBERED = tuple(name for name in TASKS if name not in UNNUMBERED)
_STARTS = dict(zip(NUMBERED, itertools.accumulate((TASKS[name] for name in NUMBERED), initial=0)))
COUNT = sum(TASKS[name] for name in NUMBERED)  # of AgentGym's numbers


class Variation(NamedTuple):
    """Of a task, from 0."""
    task: str
    number: int


def variation_of(row: Mapping[str, Any]) -> Variation:
    """What a row names: by AgentGym's number in `id` or `item_id`, or by `task` and `variation`.

    Raises:
      UserError: nothing, or what there is not, or two different ones.
    """
    by_name = _named(row)
    if any(row.get(name) is not None for name in ("id", "item_id")):
        by_number = numbered(episode_number(row, "sciworld", COUNT - 1))
        if by_name not in (None, by_number):
            raise UserError(f"The row's number is that of {by_number.task}, variation {by_number.number}, "
                            f"and its `task` and `variation` name {by_name.task}, {by_name.number}: leave "
                            "one of both out.")
        return by_number
    if by_name is None:
        raise UserError("A row of sciworld needs the number of an episode in `id`, or \"sciworld_N\" in "
                        "`item_id`, or a task's name in `task` and a number in `variation` (columns: "
                        f"{named(row)}).")
    return by_name


def numbered(number: int) -> Variation:
    """The variation of one of AgentGym's numbers, from 0 to COUNT - 1."""
    name = max((name for name in NUMBERED if _STARTS[name] <= number), key=_STARTS.__getitem__)
    return Variation(name, number - _STARTS[name])


def row_of(variation: Variation) -> dict[str, Any]:
    """The columns that name a variation: AgentGym's number, where it has one."""
    if variation.task in _STARTS:
        return {"id": _STARTS[variation.task] + variation.number}
    return {"task": variation.task, "variation": variation.number}


def tasks_of(setting: str) -> tuple[str, ...]:
    """The tasks of a setting, with commas between; all for an empty one.

    Raises:
      UserError: there is no such task.
    """
    names = [name.strip() for name in setting.split(",") if name.strip()]
    for name in names:
        if name not in TASKS:
            raise UserError(f"tasks = {quoted(setting)}: there is no task {quoted(name)}."
                            f"{did_you_mean(name, TASKS)} The tasks: {', '.join(TASKS)}.")
    return tuple(names) or tuple(TASKS)


def split_of(task: str, split: str) -> range:
    """The variations of ScienceWorld's own split: the first half is "train", the last quarter "test"; what
    lies between, its "dev", is in neither."""
    quarter = TASKS[task] // 4
    return {"train": range(2 * quarter), "test": range(3 * quarter, TASKS[task])}[split]


def _named(row: Mapping[str, Any]) -> Variation | None:
    task = row.get("task")
    number = row.get("variation")
    if task is None and number is None:
        return None
    if not isinstance(task, str) or task not in TASKS:
        near = did_you_mean(task, TASKS) if isinstance(task, str) else ""
        raise UserError(f"The row's task = {quoted(task)} is none of ScienceWorld's.{near} The tasks: "
                        f"{', '.join(TASKS)}.")
    if type(number) is not int or not 0 <= number < TASKS[task]:
        raise UserError(f"The row's variation = {quoted(number)} is none: {task} has those from 0 to "
                        f"{TASKS[task] - 1}.")
    return Variation(task, number)
