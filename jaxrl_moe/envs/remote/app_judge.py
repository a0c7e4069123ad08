"""The settings of a judge that the run asks itself about what a task app has played."""
import dataclasses
from typing import TYPE_CHECKING

from jaxrl_moe.types import UserError

if TYPE_CHECKING:
    from jaxrl_moe.envs.remote.task_app import TaskApp


def check_judge(task: "TaskApp") -> None:
    """Raises UserError for settings of a judge that have no effect, and such as are lacking."""
    beside = ("rubric_id", "on_deadline", "group_size")
    asked = {field.name: field.default for field in dataclasses.fields(task)
             if field.name.startswith("judge_") or field.name in beside}
    for name in [name for name, default in asked.items() if getattr(task, name) != default]:
        if not task.judge_url:
            raise UserError(f"{name} = {getattr(task, name)!r} has no effect, as judge_url names no judge "
                            "that the run asks: give one, or leave it out.")
    if task.reward == "judge" and not task.judge_url:
        raise UserError("reward = 'judge' needs a judge_url; where the app asks the judge, take "
                        "reward='outcome'.")
    if (task.on_deadline != "wait") != (task.judge_deadline > 0):
        raise UserError(f"judge_deadline = {task.judge_deadline:g} does not go with on_deadline = "
                        f"{task.on_deadline!r}: after a deadline on_deadline='model' or 'drop' holds, "
                        "and 'wait' has none.")
    if task.on_deadline == "model" and task.judge_provider == "model":
        raise UserError("on_deadline = 'model' has no effect with judge_provider = 'model', which is "
                        "asked already: take 'drop', or another provider.")
    _check_comparing(task)


def _check_comparing(task: "TaskApp") -> None:
    """Raises UserError where works of a group would be compared, and cannot come together."""
    if (task.group_size > 1) != (task.judge_mode != "rubric"):
        raise UserError(f"group_size = {task.group_size} does not go with judge_mode = "
                        f"{task.judge_mode!r}: a judge that compares needs the works of a group "
                        "(rollout.group_size, at least 2), and another has no use for them.")
    if task.judge_mode != "rubric" and task.judge_turns:
        raise UserError(f"judge_turns = True does not go with judge_mode = {task.judge_mode!r}, which "
                        "compares whole works: leave it out.")
    if task.judge_mode != "rubric" and (task.max_concurrent_rollouts or not task.judge_deadline):
        raise UserError(f"judge_mode = {task.judge_mode!r} needs judge_deadline above 0 and "
                        "max_concurrent_rollouts = 0: works wait for the others of their group, which "
                        "may have failed, or have no room.")
