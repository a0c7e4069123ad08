"""Stage b: the tests that are marked gpu, each a row as it ends."""
import os

from benchmarks.gpu.box import ROOT
from benchmarks.gpu.record import ABSENT, FAILED, PASSED, Recorder, Settings

ARGUMENTS = ("-m", "gpu", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short")


def run(recorder: Recorder, settings: Settings) -> None:
    """Raises RuntimeError where the tests could not be collected."""
    import pytest
    os.chdir(ROOT)
    status = pytest.main(["tests/gpu", *ARGUMENTS], plugins=[Rows(recorder)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {status!r}")


class Rows:
    """A plugin of pytest: the outcome of a test as a row."""

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def pytest_runtest_logreport(self, report) -> None:
        name = report.nodeid.partition("::")[2]
        if report.failed:
            self.recorder.add(name, FAILED, _reason(report), s=report.duration)
        elif report.skipped:
            self.recorder.add(
                name, ABSENT,
                str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)[:300])
        elif report.when == "call":
            self.recorder.add(name, PASSED, s=report.duration)


def _reason(report) -> str:
    """What a failed test raised; of a long message its ends, as the output of another process has its error
    last."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = " ".join(str(crash.message if crash else report.longrepr).split())
    return text if len(text) <= 400 else f"{text[:100]} ... {text[-300:]}"
