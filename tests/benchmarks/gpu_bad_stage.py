"""A stage of the GPU check with a good row, one that failed, and one for which the machine has not what it
needs."""
from benchmarks.gpu.record import PASSED, Recorder, Settings


def run(recorder: Recorder, settings: Settings) -> None:
    recorder.add("first", PASSED)
    recorder.attempt("second", lambda: 1 / 0)
    recorder.attempt("third | fourth", lambda: 1 / 0, absent=True)
