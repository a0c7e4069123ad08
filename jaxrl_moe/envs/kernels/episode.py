"""An episode: code, what is said to it, and code again."""
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from jaxrl_moe.envs.kernels.feedback import feedback
from jaxrl_moe.envs.kernels.instructions import observation
from jaxrl_moe.envs.kernels.reward import fast, turn_reward
from jaxrl_moe.envs.kernels.verdicts.judge import Judge
from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.envs.lifecycle import Lifecycle
from jaxrl_moe.protocols import Env
from jaxrl_moe.types import Action, Messages, Step

LONGEST_NOTE = 4000  # characters of what is kept of a verdict for people


@dataclasses.dataclass(frozen=True)
class Rules:
    """When an episode ends, and what is said.

    Attributes:
      max_turns: that it has at most.
      good_speedup: of a correct kernel, at which it ends; one that is not timed is as good as can be seen.
      repeated_failures: that are the same, one after the other, at which it ends; 0: never.
      feedback_chars: of an error that are shown.
      again: what is asked for after it.
      seed: of weights and inputs.
    """
    max_turns: int
    good_speedup: float
    repeated_failures: int
    feedback_chars: int
    again: str
    seed: int


class NoCodeError(Exception):
    """An answer that holds no code; the message says so to who wrote it."""


class KernelEpisode(Env):
    """Up to max_turns candidates for one problem.

    Args:
      problem: as it is judged.
      opening: shown first; empty where the row's prompt says all.
      source_of: the source of ModelNew that an answer gives; raises NoCodeError where it gives none.
      judge: of candidates.
    """

    def __init__(self, problem: Judged, opening: Messages, source_of: Callable[[str], str], judge: Judge,
                 rules: Rules):
        self._problem = problem
        self._opening = opening
        self._source_of = source_of
        self._judge = judge
        self._rules = rules
        self._verdicts: list[Verdict] = []
        self._life = Lifecycle()

    def reset(self) -> Messages:
        """The problem, where the row has no prompt of its own."""
        self._life.begin()
        return self._opening

    def step(self, action: Action) -> Step:
        """Judges the code of an answer; info is that of `figures`.

        Raises:
          EnvError: nobody could judge it, which says nothing of the answer.
          UserError: the problem's own file fails, or the episode is not running.
        """
        self._life.check_running()
        verdict = self._judged(action.text)
        self._verdicts.append(verdict)
        done = self._over()
        if done:
            self._life.end()
        shown = () if done else observation(feedback(verdict, self._rules.feedback_chars, self._rules.again))
        note = f"{verdict.fault or 'correct'} ({verdict.basis}): {verdict.message}"[:LONGEST_NOTE]
        return Step(turn_reward(verdict), done, figures(self._verdicts, self._rules.max_turns if done else 0),
                    shown, notes={"verdict": note})

    def close(self) -> None:
        """There is nothing to free: the judge is the task's."""
        self._life.end()

    def _judged(self, text: str) -> Verdict:
        try:
            source = self._source_of(text)
        except NoCodeError as error:
            return Verdict(Basis.SOURCE, fault=Fault.NO_CODE, message=str(error))
        return self._judge.verdict(self._problem, source, self._rules.seed)

    def _over(self) -> bool:
        last = self._verdicts[-1]
        good = last.correct and (last.speedup is None
                                 or last.speedup >= self._rules.good_speedup and not last.quarantined)
        return good or len(self._verdicts) >= self._rules.max_turns or self._stuck()

    def _stuck(self) -> bool:
        """Whether it has failed in the same way again and again."""
        count = self._rules.repeated_failures
        failures = [(each.fault, each.message) for each in self._verdicts[-count:]] if count else []
        return 0 < count == len(failures) and len(set(failures)) == 1 and failures[0][0] is not None


def figures(verdicts: Sequence[Verdict], turns: int) -> Mapping[str, float]:
    """Named numbers of an episode up to now.

    Args:
      verdicts: of its turns.
      turns: that it might have had; 0: it goes on.

    Returns:
      "correct" and "compiled", whether any was; "correct_by_turn_N", whether one was by then, which of an
      episode that has ended early stands for the turns that it did without; "reward_turn_N" of those that
      were played; "fast_1" and "fast_2", whether any was correct and more than so many times as fast as the
      reference; "timed", whether any was, as speed is worth nothing where none is; "quarantined", how many
      are; and "basis_..." of the last, 1 for what it rests on.
    """
    told = {"correct": any(each.correct for each in verdicts),
            "compiled": any(each.compiled for each in verdicts),
            "timed": any(each.speedup is not None for each in verdicts),
            "quarantined": sum(each.quarantined for each in verdicts),
            **{f"fast_{p}": any(fast([each], p) for each in verdicts) for p in (1, 2)},
            **{f"basis_{basis}": verdicts[-1].basis == basis for basis in Basis},
            **{f"reward_turn_{number}": turn_reward(each) for number, each in enumerate(verdicts, 1)},
            **{f"correct_by_turn_{number}": any(each.correct for each in verdicts[:number])
               for number in range(1, max(turns, len(verdicts)) + 1)}}
    return {name: float(value) for name, value in told.items()}
