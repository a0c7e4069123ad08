"""Adapters' tasks over a worker of no package."""
import contextlib
import importlib.util
import pathlib
import sys

import pytest

from jaxrl_moe.envs.adapters.task import WORKERS
from jaxrl_moe.envs.package_workers.launch import python_of
from jaxrl_moe.types import Action, EnvError, UserError

FAKE = pathlib.Path(__file__).parent / "adapter_workers" / "adapter_fake.py"


def faked(task):
    """The task with a worker that adds up digits."""
    task.worker = FAKE
    task.python = sys.executable
    return task


def said(text, calls=(), malformed=()):
    """An answer of the policy's."""
    return Action(text, 1, False, tuple(calls), tuple(malformed))


def begun(task, number=0):
    """An episode of the task that has begun."""
    episode = task.open({"id": number}, 0)
    episode.reset()
    return episode


def shown(episode, text):
    """What the episode shows for an answer."""
    (message,) = episode.step(said(text)).observation
    return message["content"]


def failure(episode, text):
    """The error with which an episode fails at an answer."""
    with pytest.raises(EnvError) as caught:
        episode.step(said(text))
    return caught.value


def python_of_adapter(name):
    """The interpreter of an adapter's environment; the test is skipped where there is none."""
    try:
        return python_of(name, "", f"make env-adapters ADAPTERS={name}")
    except UserError as error:
        pytest.skip(str(error))


def played(task, row, *answers):
    """(what the episode begins with, its steps) as these are answered."""
    with contextlib.closing(task.open(row, 0)) as episode:
        opening = episode.reset()
        return opening, [episode.step(answer) for answer in answers]


def harmless_module():
    """What a worker of reasoning-gym has against code in answers; it needs no package."""
    spec = importlib.util.spec_from_file_location("adapter_harmless", WORKERS / "adapter_harmless.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scorers_that_evaluate():
    """The data sets of reasoning-gym whose scorers evaluate what the policy wrote."""
    module = harmless_module()
    return [*module.LITERALS, *module.FORMULAS]
