"""A verdict in words, for who wrote the candidate."""
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Verdict
from jaxrl_moe.spelling import cut

AGAIN = "Think about what to change, and write the whole code again in one block."
_FAULTS = {
    Fault.NO_CODE: "Your answer was not tried", Fault.REFUSED: "Your code was refused, and not run",
    Fault.RAISED: "Your code fails", Fault.NOT_COMPILED: "Your kernels do not compile",
    Fault.MISMATCH: "Your code runs, and its output is wrong", Fault.MUTATED: "Your code may not do this",
    Fault.ALIASED: "Your code may not do this", Fault.KEPT: "Your code may not do this",
    Fault.CLOCK: "Your code may not do this",
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
    timing = verdict.timing
    if timing is None:
        return "It was not timed."
    if timing.speedup is None:
        return f"It takes {timing.median_ms:.4g} ms, and the reference was not timed."
    if verdict.quarantined:
        return (f"It seems {timing.speedup:.3g} times as fast as the reference, which nobody believes until "
                "somebody has looked, so that its speed counts for nothing.")
    references = {"in PyTorch": timing.eager_ms, "under torch.compile": timing.compiled_ms}
    told = " and ".join(f"{ms:.4g} ms {how}" for how, ms in references.items() if ms is not None)
    return (f"It takes {timing.median_ms:.4g} ms, and the reference {told}: it is {timing.speedup:.3g} times "
            "as fast as the faster of these.")
