"""Who judges candidates: sandboxes of this machine (pool.py), or an evaluation server (client.py)."""
import dataclasses
from typing import Protocol

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Trials:
    """How often a candidate is called, whatever the problem says.

    Attributes:
      correct: fresh inputs that it must be right for, all of them; at least one for each of the problem's
        sizes.
      timed: calls that are timed where it is right, on a GPU; 0: none.

    Raises:
      ValueError: there is none to be right for, or fewer than none to be timed.
    """
    correct: int = 5
    timed: int = 0

    def __post_init__(self):
        if self.correct < 1 or self.timed < 0:
            raise ValueError(f"{self}: one trial is the least, and fewer than no timed calls are none")


class Judge(Protocol):
    """Any thread may ask it."""

    def verdict(self, problem: Judged, source: str, seed: int) -> Verdict:
        """What is said of a candidate's source.

        Args:
          seed: of weights, and with both sources of inputs.

        Raises:
          EnvError: nobody could judge it now, which says nothing of the candidate.
          UserError: the problem's own file cannot be run, or the judge is closed or refuses the call for
            good.
        """

    def close(self) -> None:
        """Ends it; nothing of it is left."""
