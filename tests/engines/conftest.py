"""What all tests on real servers share: the servers' environment, and that none of them is left behind."""
import os
import pathlib
import signal
import uuid

import pytest

from tests.engines import real

MARK = "JAXRL_ENGINE_TESTS"


@pytest.fixture(scope="session", autouse=True)
def environment():
    """The environment of every server that is started; in the end, that all of them are gone."""
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**real.ENVIRONMENT, MARK: mark}.items():
            patch.setenv(name, value)
        yield
    left = {pid: command for pid, command in servers(mark)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"servers that outlived the tests, and were killed: {left}"


def servers(mark):
    """(process number, command) of what the tests started of vLLM and SGLang."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended, or is another user's
        if marked and int(folder.name) != os.getpid() and any(name in command.lower()
                                                              for name in ("vllm", "sglang")):
            yield int(folder.name), command[:200]
