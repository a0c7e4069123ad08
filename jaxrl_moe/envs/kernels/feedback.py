"""A verdict in words, for who wrote the candidate."""
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.spelling import cut

AGAIN = "Think about what to change, and write the whole code again in one block."
_FAULTS = {
    Fault.NO_CODE: "Your answer was not tried", Fault.REFUSED: "Your code was refused, and not run",
    Fault.RAISED: "Your code fails", Fault.NOT_COMPILED: "Your kernels do not compile",
    Fault.MISMATCH: "Your code runs, and its output is wrong", Fault.MUTATED: "Your code may not do this",
    Fault.ALIASED: "Your code may not do this", Fault.KEPT: "Your code may not do this",
    Fault.DECOY: "Your kernels do not do the work",
    Fault.TIMED_OUT: "Your code takes too long", Fault.MEMORY: "Your code takes too much memory",
    Fault.CRASHED: "Your code ends its process"}
_BASES = {Basis.SOURCE: "", Basis.DEVICE: "",
          Basis.INTERPRETER: " It was run by Triton's interpreter, at small sizes."}


def feedback(verdict: Verdict, longest: int, again: str = AGAIN) -> str:
    """What a policy is told of its turn.

    Args:
      longest: characters of the error, whose head and tail are kept.
      again: what it is asked to do next.
    """
    if verdict.correct:
        return f"Your code is correct. {_speed(verdict)} Make it faster.\n\n{again}"
    said = cut(verdict.message.strip(), longest)
    lines = f"\n\n{said}\n\n" if "\n" in said else f": {said} "
    passed = f" It was right in {verdict.trials} trials before." if verdict.trials else ""
    beside = (_BASES[verdict.basis] + passed).strip()
    return f"{_FAULTS[verdict.fault]}{lines}{beside}".strip() + f"\n\n{again}"


def _speed(verdict: Verdict) -> str:
    if verdict.timing is None:
        return "It was not timed."
    if verdict.quarantined:
        return (f"It seems {verdict.speedup:.3g} times as fast as the reference, which nobody believes "
                "until somebody has looked, so that its speed counts for nothing.")
    return f"{_times(verdict.timing)}, so it is {verdict.speedup:.3g} times as fast."


def _times(timing: Timing) -> str:
    compiled = f" and {timing.compiled_ms:.4g} ms under torch.compile" if timing.compiled_ms else ""
    return f"It takes {timing.median_ms:.4g} ms; the reference takes {timing.eager_ms:.4g} ms{compiled}"
