"""A problem as it is judged, and what is known of a candidate so far."""
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.timing import Milliseconds
from jaxrl_moe.envs.kernels.verdicts.verdict import Fault


@dataclasses.dataclass(frozen=True)
class Judged:
    """A problem as it is judged.

    Attributes:
      source: of the file with Model, get_inputs and get_init_inputs.
      sizes: values of its module-level integers, a mapping for each shape that is tried; empty: the file's
        own.
      trials: fresh inputs that a candidate must be right for, all of them; at least one for each of the
        sizes.
      torch_operators: whether forward may compute by torch's own operators too; its kernels must do their
        part.
      timed: calls that are timed where it is right, on a GPU; 0: none.
    """
    source: str
    sizes: Sequence[Mapping[str, int]] = ()
    trials: int = 5
    torch_operators: bool = False
    timed: int = 0


class FoundError(Exception):
    """The verdict is known before all is tried."""

    def __init__(self, fault: Fault, message: str):
        super().__init__(message)
        self.fault = fault


class Trial:
    """What is known of a candidate so far."""

    def __init__(self, problem: Judged, source: str, seed: int):
        self.problem = problem
        self.source = source
        self.seed = seed
        self.passed = 0
        self.launches: dict[str, Any] = {}
        self.found: FoundError | None = None
        self.taken: Milliseconds | None = None
        self._draws = hashlib.sha256(f"{seed}\0{problem.source}\0{source}".encode()).digest()

    def seeds(self, number: int) -> int:
        """Of a trial's inputs: no candidate can be written for them."""
        return int.from_bytes(hashlib.sha256(self._draws + number.to_bytes(8, "big")).digest()[:7], "big")
