"""Evaluators on this machine, with few seconds for whoever does not end."""
import contextlib
import importlib.util
import math
import sys

import pytest

from jaxrl_moe.envs.kernels.verdicts.evaluator import Evaluator
from jaxrl_moe.envs.kernels.verdicts.warmed import Warmed
from jaxrl_moe.sandbox.records import Bounds
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.types import UserError

BOUNDS = Bounds(memory_mib=2048, processes=64, seconds=math.inf, output_bytes=2**40, disk_bytes=2**26)


def missing():
    """Why there can be none here; empty where there can."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "triton")):
        return "torch and triton are not both installed"
    try:
        working_way()
    except UserError as error:
        return str(error)
    return ""


NEEDED = pytest.mark.skipif(bool(missing()), reason=missing())


@contextlib.contextmanager
def evaluator(seconds=20.0, compiles=False):
    """Closed in the end."""
    way = working_way()
    warmed = [Warmed(mode, sys.executable, "cpu", BOUNDS, way)
              for mode in ("reference", "candidate", "compiler")]
    made = Evaluator(*warmed[:2], warmed[2] if compiles else None, seconds=seconds)
    try:
        yield made
    finally:
        made.close()
