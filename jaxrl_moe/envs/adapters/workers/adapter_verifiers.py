"""Asks tasks of a taskset of verifiers (its v1 form), and scores what is answered by their own rewards."""
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from adapter_async import Loop
from verifiers.v1.configs.agent import AgentConfig
from verifiers.v1.configs.taskset import TasksetConfig
from verifiers.v1.graph import MessageNode
from verifiers.v1.state import state_cls
from verifiers.v1.task import Task
from verifiers.v1.trace import AgentInfo, Trace, TraceTask
from verifiers.v1.types import AssistantMessage, SystemMessage, UserMessage, content_text
from verifiers.v1.utils.generic import concrete_type
from verifiers.v1.utils.loaders import load_taskset, taskset_class
from worker_loop import Refused, serve


class Verifiers:
    """One taskset, whose tasks ask once and are scored by what is answered alone."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._tasks: list[Task] = []
        self._coming: Iterator[Task] = iter(())

    def begin(self, taskset: str, options: dict[str, Any], success: float, seconds: float) -> dict[str, Any]:
        self.success = success
        self.seconds = seconds
        try:
            kind = taskset_class(taskset)
            config = concrete_type(kind, TasksetConfig) or TasksetConfig
            made = load_taskset(config(id=taskset, **options))
        except Exception as error:
            raise Refused(f"verifiers cannot load taskset = {taskset!r} with options = {options}: "
                          f"{type(error).__name__}: {error}. Install its package in the adapter's "
                          "environment, or put its folder on PYTHONPATH.") from error
        if kind.toolsets(made.config):
            raise Refused(f"The taskset {taskset} gives tools, which this adapter does not serve: play it "
                          "with verifiers itself, as an agent that calls the run's endpoint.")
        self._coming = iter(made)
        self._task(0)
        return {"bounded": made.bounded}

    def _task(self, number: int) -> Task:
        missing = number + 1 - len(self._tasks)
        self._tasks += itertools.islice(self._coming, max(missing, 0))
        if number >= len(self._tasks):
            raise Refused(f"There is no task {number}: the taskset has {len(self._tasks)}, numbered from 0.")
        task = self._tasks[number]
        _check(task)
        return task

    def open(self, number: int) -> "Asked":
        return Asked(self, self._task(number))


def _check(task: Task) -> None:
    """Raises Refused for a task that needs more than an answer in words."""
    name = type(task).__name__
    changed = [hook for hook in ("setup", "finalize") if getattr(type(task), hook) is not getattr(Task, hook)]
    scorers = [fn for kind in ("reward", "metric") for fn in task.hooks(kind)]
    scorers += [judge.score for judge in task.plugged_judges()]
    boxed = [fn.__name__ for fn in scorers if _needs_runtime(fn)]
    tools = type(task).toolsets(task.config)
    needs = [*changed, *boxed, *(["its tools"] if tools else [])]
    if task.NEEDS_CONTAINER or needs:
        raise Refused(f"The task {name} needs a container or runtime for {', '.join(needs) or 'all of it'}, "
                      "which this adapter does not give: play it with verifiers itself, as an agent that "
                      "calls the run's endpoint.")
    if not any(task.hooks("reward")) and not task.plugged_judges():
        raise Refused(f"The task {name} has no reward that could be scored.")


def _needs_runtime(function: Callable[..., Any]) -> bool:
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


class Asked:
    """One task, asked once."""

    def __init__(self, package: Verifiers, task: Task):
        self._package = package
        self._task = task
        self._messages = _prompt(task)

    def reset(self) -> dict[str, Any]:
        return {"observation": ["\n\n".join(content_text(message.content) for message in self._messages)]}

    def step(self, text: str) -> dict[str, Any]:
        trace = self._trace(text)
        self._package.loop.start(self._task.score(trace)).result(self._package.seconds)
        unscored = [name for name, reward in trace.rewards.items() if reward is None]
        if unscored:
            raise ValueError(f"no score of {', '.join(unscored)}")
        reward = float(trace.reward)
        scores = {name: float(each.score) for name, each in trace.rewards.items()}
        metrics = {name: float(value) for name, value in trace.metrics.items() if value is not None}
        return {"reward": reward, "done": True,
                "info": {**metrics, **scores, "correct": float(reward >= self._package.success)}}

    def _trace(self, text: str) -> Trace:
        task = self._task
        data = TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash)
        trace = Trace(task=data, state=state_cls(type(task))(), agent=AgentInfo(config=AgentConfig()))
        said = [*self._messages, AssistantMessage(content=text)]
        for number, message in enumerate(said):
            trace.nodes.append(MessageNode(parent=number - 1 if number else None, message=message,
                                           sampled=message is said[-1]))
        trace.is_completed = True
        trace.ok = True
        return trace

    def close(self) -> None:
        """There is nothing to free."""


def _prompt(task: Task) -> list[SystemMessage | UserMessage]:
    """The messages before the answer. Raises Refused for a prompt with more than texts of user and system."""
    data = task.data
    if data.prompt is None:
        raise Refused(f"The task {type(task).__name__} has no prompt: its user opens the conversation, and "
                      "this adapter plays none.")
    given = [UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt)
    messages = [*([SystemMessage(content=data.system_prompt)] if data.system_prompt else []), *given]
    for message in messages:
        parts = message.content if isinstance(message.content, list) else []
        if message.role not in ("system", "user") or any(part.type != "text" for part in parts):
            raise Refused(f"The prompt of the task {type(task).__name__} has more than texts of user and "
                          "system, which this adapter does not show.")
    return messages


if __name__ == "__main__":
    serve(Verifiers())
