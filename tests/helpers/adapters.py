"""Adapters' tasks over a worker of no package."""
import pathlib
import sys

from jaxrl_moe.types import Action

FAKE = pathlib.Path(__file__).parent / "adapter_workers" / "adapter_fake.py"


def faked(task):
    """The task with a worker that adds up digits."""
    task.worker = FAKE
    task.python = sys.executable
    return task


def said(text, calls=(), malformed=()):
    """An answer of the policy's."""
    return Action(text, 1, False, tuple(calls), tuple(malformed))
