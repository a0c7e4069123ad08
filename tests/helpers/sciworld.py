"""ScienceWorld for tests: skipped where Java or a package is missing."""
import atexit
import functools
import os

from jaxrl_moe.envs.text.sciworld import SciWorld
from jaxrl_moe.types import Action
from tests.helpers.game_engines import skip_without_engine

PARROT = {"task": "lifespan-longest-lived", "variation": 3}  # done by focusing on the egg of a parrot

# Of processes that live for seconds most of the time goes into compiling well what then runs no more.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


def task(**settings):
    """A task of its own; close it."""
    skip_without_engine("sciworld")
    return SciWorld(**settings)


@functools.cache
def shared_task():
    """A task with two processes, for all tests of this process of pytest."""
    shared = task(jvms=2)
    atexit.register(shared.close)
    return shared


def act(env, command):
    return env.step(Action(f"Thought:\nWhy not.\n\nAction:\n{command}", 5, False))


def played(env, commands):
    """The steps of an episode up to its end, or the last command's."""
    steps = []
    for command in commands:
        steps.append(act(env, command))
        if steps[-1].done:
            break
    return steps
