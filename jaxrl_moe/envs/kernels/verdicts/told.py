"""A verdict as evaluation servers tell it: {"compiled", "correctness", "runtime", "runtime_stats",
"metadata"}, with times in milliseconds and a runtime of -1 where there is none."""
from collections.abc import Mapping
from typing import Any

from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.outside import Fields, OutsideError

NOT_TIMED = -1.0


def said(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain JSON."""
    timing = verdict.timing
    return {"compiled": verdict.compiled, "correctness": verdict.correct,
            "runtime": timing.median_ms if timing else NOT_TIMED,
            "runtime_stats": _statistics(timing) if timing else {},
            "metadata": {"basis": verdict.basis.value, "fault": verdict.fault and verdict.fault.value,
                         "message": verdict.message, "trials": verdict.trials, "target": verdict.target,
                         "quarantined": verdict.quarantined, "speedup": verdict.speedup,
                         "baseline_eager_ms": timing and timing.eager_ms,
                         "baseline_compiled_ms": timing and timing.compiled_ms,
                         "baseline_missing": timing.missing if timing else ""}}


def _statistics(timing: Timing) -> dict[str, Any]:
    return {"median": timing.median_ms, "min": timing.least_ms, "max": timing.most_ms,
            "num_trials": timing.trials}


def heard(told: Mapping[str, Any], where: str = "The verdict") -> Verdict:
    """The verdict that a server told of; fields beside those of said() are not looked at.

    Raises:
      OutsideError: it is none: a field is absent or of another kind, or two contradict each other; `where`
        begins the message.
    """
    fields = Fields(told, where)
    about = fields.object("metadata")
    fault = about.string("fault", None, choices=list(Fault))
    timing = _timing(fields, about)
    verdict = Verdict(
        Basis(about.string("basis", choices=list(Basis))), compiled=fields.boolean("compiled"),
        correct=fields.boolean("correctness"), fault=None if fault is None else Fault(fault),
        message=about.string("message", ""), trials=about.integer("trials", 0),
        target=about.string("target", ""), timing=timing, quarantined=about.boolean("quarantined", False))
    _check(verdict, where)
    return verdict


def _timing(fields: Fields, about: Fields) -> Timing | None:
    runtime = fields.number("runtime", NOT_TIMED)
    if runtime == NOT_TIMED:
        return None
    if runtime <= 0:
        raise OutsideError(f"{fields.where}: runtime is {runtime:g} ms; it must be above 0, or {NOT_TIMED:g} "
                           "where it was not timed.")
    statistics = fields.object("runtime_stats", None) or Fields({}, f"{fields.where}: runtime_stats")
    return Timing(runtime, statistics.number("min", runtime, above=0.0),
                  statistics.number("max", runtime, above=0.0), statistics.integer("num_trials", 1, least=1),
                  about.number("baseline_eager_ms", None, above=0.0),
                  about.number("baseline_compiled_ms", None, above=0.0),
                  about.string("baseline_missing", ""))


def _check(verdict: Verdict, where: str) -> None:
    """Raises OutsideError where what is said of a candidate cannot be."""
    wrong = {"it is correct and has a fault": verdict.correct and verdict.fault is not None,
             "it is correct and did not compile": verdict.correct and not verdict.compiled,
             "it is not correct and has no fault": not verdict.correct and verdict.fault is None,
             "it was not run and is correct": verdict.correct and verdict.basis == Basis.SOURCE}
    for words, is_so in wrong.items():
        if is_so:
            raise OutsideError(f"{where} contradicts itself: {words}.")
