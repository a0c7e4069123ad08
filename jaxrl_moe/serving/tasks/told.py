"""What a task app tells of its task: /info and /task_info."""
from typing import Any

from jaxrl_moe import __version__
from jaxrl_moe.serving.tasks.bodies import MOST_LISTED, MOST_OPS, MOST_SECONDS, MOST_TURNS, PolicyConfig
from jaxrl_moe.serving.tasks.judging import Judging
from jaxrl_moe.serving.tasks.rollouts import WAITING, Rollouts
from jaxrl_moe.serving.tasks.task import AppTask


def service_info(task: AppTask, judging: Judging, rollouts: Rollouts) -> dict[str, Any]:
    """The answer of /info."""
    return {"service": {"task": _task(task), "version": __version__}, "dataset": _dataset(task),
            "rubrics": _rubric(task, judging), "inference": _inference(), "capabilities": _capabilities(),
            "limits": _limits(task, rollouts)}


def taskset_info(task: AppTask) -> dict[str, Any]:
    """The answer of /task_info without seeds."""
    return {"taskset": _dataset(task) | {"task": _task(task)}}


def instance_info(task: AppTask, judging: Judging, rollouts: Rollouts, seed: int) -> dict[str, Any]:
    """What /task_info answers of a seed. Raises UserError where there is no such instance."""
    episode = task.open(seed)
    name, argument, what = task.tool
    return {"task": _task(task), "environments": [task.name],
            "action_space": {"type": "text", "tools": [{"name": name, "description": what,
                                                       "args": {argument: "string"}}]},
            "observation": {"text": "the brief, then the rules that the last turn broke"},
            "dataset": _dataset(task) | {"seed": seed}, "rubric": _rubric(task, judging),
            "inference": _inference(), "capabilities": _capabilities(), "limits": _limits(task, rollouts),
            "task_metadata": {"brief": episode.brief, **episode.facts}}


def _task(task: AppTask) -> dict[str, Any]:
    return {"id": task.name, "name": task.name, "description": task.summary, "version": __version__}


def _dataset(task: AppTask) -> dict[str, Any]:
    return {"id": task.name, "count": task.count, "seeds": [0, task.count - 1]}


def _rubric(task: AppTask, judging: Judging) -> dict[str, Any]:
    return {"outcome": task.rubric.plain(), "events": dict(task.checks), "judge": judging.told()}


def _inference() -> dict[str, Any]:
    return {"protocol": "POST chat/completions of OpenAI's interface, at policy.config.inference_url",
            "config": list(PolicyConfig.model_fields)}


def _capabilities() -> dict[str, Any]:
    return {"rollout": True, "trajectories": True, "return_trace": True, "trace_formats": ["compact", "full"],
            "logprobs": False, "value": False, "ops": ["agent", "env"]}


def _limits(task: AppTask, rollouts: Rollouts) -> dict[str, Any]:
    return {"max_turns": MOST_TURNS, "default_turns": task.max_turns, "ops": MOST_LISTED,
            "max_ops": MOST_OPS, "max_time_s": MOST_SECONDS, "rollouts": rollouts.most,
            "waiting": WAITING * rollouts.most}
