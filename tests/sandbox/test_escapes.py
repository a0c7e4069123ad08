"""Nothing gets out of a sandbox, of whichever kind; outside the same attempts succeed."""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.syscalls import ASKED_FOR, KERNEL, MOUNTS, OTHERS, ROOMS, UNCOUNTED, this_machine
from tests.helpers.escapes import ESCAPES
from tests.helpers.shut_in import run_python

PROGRAM = str(pathlib.Path(__file__).parents[1] / "helpers/escapes.py")
SECRET = "sk-of-ours-4711"
# Outside these do not succeed on every machine, as their kernels or their containers differ.
NOT_EVERYWHERE = {"vsock_socket", "crypto_socket", "packet_socket", "calls_of_x32", "calls_of_i386", "clone3",
                  "io_uring", "userfaultfd", "core_file", "unshare", "clone_into_a_namespace", "perf_events",
                  "write_to_the_kernel", "higher_limits", "internet6_socket"}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What the attempts are after; whoever is let may have it."""
    folder = pathlib.Path("/tmp") / f"sandbox-test-{os.getpid()}"  # pytest's own are nobody else's to read
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "secret").write_text(SECRET)
    setuid = folder / "shown" / "id"
    setuid.parent.mkdir()
    shutil.copy("/usr/bin/id", setuid)
    setuid.chmod(0o4755)
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, folder)
        server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = held.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0sandbox-test-{os.getpid()}")
        abstract.listen()
        numbers = this_machine().numbers(OTHERS, MOUNTS, KERNEL, UNCOUNTED, ROOMS, ASKED_FOR)
        yield {"secret": SECRET, "secret_file": str(folder / "secret"), "pid": os.getpid(),
               "port": server.getsockname()[1], "abstract": f"sandbox-test-{os.getpid()}", "folder": "/tmp",
               "setuid_program": str(setuid), "numbers": numbers,
               "readable": [*python(), PROGRAM, str(setuid.parent)]}


@pytest.fixture(scope="module")
def got(kind, facts):
    """{name: what an attempt got in the sandbox}."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SOME_API_KEY", SECRET)
        shown = (PROGRAM, os.path.dirname(facts["setuid_program"]))
        ended = run_python(kind, PROGRAM, json.dumps(facts), readable=shown)
    assert ended.code == 0 and ended.cause is None, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", ESCAPES)
def test_what_is_shut_in_gets_nothing(name, got):
    if got[name] == "unavailable":
        pytest.skip("not for this processor")
    assert got[name] == ""


@pytest.fixture(scope="module")
def outside(facts, tmp_path_factory):
    """{name: what it gets where nothing keeps it}; setuid programs as they are for others than root."""
    asked = json.dumps(facts | {"folder": str(tmp_path_factory.mktemp("outside")), "readable": []})
    done = subprocess.run([sys.executable, "-I", "-S", PROGRAM, asked], capture_output=True, text=True,
                          env=os.environ | {"SOME_API_KEY": SECRET}, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [name for name in ESCAPES if name not in NOT_EVERYWHERE])
def test_outside_it_gets_what_it_is_after(name, outside):
    """So that the tests above can fail."""
    if os.geteuid() != 0:
        pytest.skip("only root may all of it")
    assert outside[name]


ALL_CALLS = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
let = []
for name, number in json.loads(sys.argv[1]).items():
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != 1:
        let.append(name)
print(json.dumps(let))
"""


def test_every_call_of_the_tables_is_refused(kind):
    numbers = this_machine().numbers(OTHERS, MOUNTS, KERNEL, UNCOUNTED, ROOMS)
    ended = run_python(kind, ALL_CALLS, json.dumps(numbers))
    assert json.loads(ended.stdout) == [] and len(numbers) > 60
