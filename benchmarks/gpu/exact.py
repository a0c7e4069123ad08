"""Stage a: every path that a GPU takes, forward and backward, against float64 on the host."""
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.gpu.record import ABSENT, FAILED, PASSED, Recorder, Settings, message
from tests.gpu.exact import attention, experts, policy
from tests.gpu.exact.check import Check

REHEARSED = 11  # one check in so many; on a CPU nearly all of a check's second is compilation
THREADS = 8


def run(recorder: Recorder, settings: Settings) -> None:
    """Several at once, since a check's time is the compiler's and NumPy's."""
    checks = rehearsed() if settings.rehearse else all_checks()
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda check: judge(check, recorder, settings.rehearse), checks):
            pass


def all_checks() -> Sequence[Check]:
    """The policy first: a time box that ends early should not end before it."""
    return [*policy.checks(), *experts.checks(), *attention.checks()]


def rehearsed() -> Sequence[Check]:
    """Some of every kind and precision, and all that need a GPU's own library, which are quick to say so."""
    return [check for number, check in enumerate(all_checks()) if check.gpu_only or number % REHEARSED == 0]


def judge(check: Check, recorder: Recorder, rehearse: bool) -> None:
    """One row: passed, failed with its worst error or its message, or not on this machine."""
    try:
        errors = check.errors()
    except Exception as error:
        recorder.add(check.name, ABSENT if rehearse and check.gpu_only else FAILED, message(error))
        return
    # NaN is wrong
    wrong = {what: error for what, error in errors.items() if not error <= check.precision.tolerance}
    worst = max(errors, key=lambda what: errors[what] if errors[what] == errors[what] else float("inf"))
    note = "" if not wrong else "beyond it: " + ", ".join(f"{what} {error:.1e}"
                                                          for what, error in wrong.items())
    recorder.add(check.name, FAILED if wrong else PASSED, note, error=f"{errors[worst]:.1e} ({worst})",
                 allowed=f"{check.precision.tolerance:.0e}")
