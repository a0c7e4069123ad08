"""What a verdict is worth, and what many say together."""
from collections.abc import Sequence

from jaxrl_moe.envs.kernels.verdicts.verdict import Verdict

COMPILED = 0.1
CORRECT = 0.3       # in place of that
MOST_SPEED = 2.0    # of what a speed-up adds
MOST = CORRECT + MOST_SPEED


def turn_reward(verdict: Verdict) -> float:
    """0 for what does not compile, 0.1 for what does, 0.3 for what is correct, and then clip(speedup - 1,
    0, 2) more, where it was timed and the speed-up is believed."""
    if not verdict.correct:
        return COMPILED if verdict.compiled else 0.0
    return CORRECT + speed_term(verdict)


def speed_term(verdict: Verdict) -> float:
    """What speed adds; 0 where it was not timed, or is in quarantine."""
    speedup = verdict.speedup
    if not verdict.correct or speedup is None or verdict.quarantined:
        return 0.0
    return min(max(speedup - 1.0, 0.0), MOST_SPEED)


def fast(verdicts: Sequence[Verdict], p: float) -> float:
    """fast_p of KernelBench: the fraction that is correct and more than p times as fast as the reference;
    one that was not timed, or is in quarantine, is not. With p = 0 the fraction that is correct."""
    good = [verdict.correct and (p == 0 or (verdict.speedup or 0) > p and not verdict.quarantined)
            for verdict in verdicts]
    return sum(good) / len(good) if good else 0.0
