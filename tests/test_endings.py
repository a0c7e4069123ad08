"""What errors are told as, and how processes end: one paragraph, an exit code, no traceback."""
import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from jaxrl_moe import endings, foreign_errors
from jaxrl_moe.paths import usable
from jaxrl_moe.system_errors import system_error
from jaxrl_moe.types import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
START = "import sys\nfrom jaxrl_moe import begin\nbegin.command()\nfrom jaxrl_moe import endings\n"
INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == "jaxrl_moe.foreign_errors":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""
BUSY = "import hashlib\nprint('busy', flush=True)\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2**30)\n"


def hears_ctrl_c():
    """However the tests were started: what a script starts with & ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def script(text, *options, **settings):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": hears_ctrl_c} | settings
    return subprocess.Popen([sys.executable, "-c", START + text, *options], env=environment, text=True,
                            **settings)


def ended(text, *options, **settings):
    process = script(text, *options, **settings)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_ctrl_c_while_the_endings_themselves_are_loaded_ends_a_command_without_a_word():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT + START + "print('went on')"],
                          env=environment, capture_output=True, text=True, preexec_fn=hears_ctrl_c)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def system(code, name=None, other=None):
    return OSError(code, "", name, None, other) if other else OSError(code, "", name)


@pytest.mark.parametrize("error, words", [
    (UserError("x is wrong: mend it."), ["Error: x is wrong: mend it."]),
    (system(errno.ENOENT, "a/b.json"), ["'a/b.json': No such file", "Check the path"]),
    (system(errno.ENAMETOOLONG, "a" * 300), ["File name too long", "Give a shorter path", "aaa...aaa"]),
    (system(errno.ELOOP, "/a/loop"), ["Too many levels of symbolic links", "Check the path"]),
    (system(errno.ENOTDIR, "/a"), ["Not a directory", "Check the path"]),
    (system(errno.EACCES, "/root/x"), ["'/root/x': Permission denied", "give another path"]),
    (system(errno.EROFS, "/ro/x"), ["'/ro/x': Read-only file system", "a disk that can be written"]),
    (system(errno.ENOSPC, "/full/x"), ["'/full/x': No space left", "Free some space"]),
    (system(errno.EDQUOT, "/a", "/b"), ["'/a' and '/b': Disk quota exceeded", "Free some space"]),
    (system(errno.EFBIG, "/a"), ["File too large", "ulimit -f"]),
    (system(errno.EMFILE, "/a"), ["Too many open files", "ulimit -n"]),
    (system(errno.ENOMEM), ["Cannot allocate memory", "ulimit -v"]),
    (system(errno.EAGAIN), ["Resource temporarily unavailable", "ulimit -u"]),
    (system(errno.EADDRINUSE), ["Address already in use", "0 for a free one"]),
    (system(errno.EADDRNOTAVAIL), ["Cannot assign requested address", "127.0.0.1"]),
    (system(errno.ECONNREFUSED), ["Connection refused", "Check that the server runs"]),
    (system(errno.EPIPE), ["Broken pipe", "Check that the server runs"]),
    (system(errno.EIO, "/a"), ["Input/output error", "another one"]),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ["cannot be resolved", "Name or serv"]),
    (OSError("a library's own words"), ["a library's own words"]),
    (MemoryError(), ["memory of this machine is used up.", "rollout.slots"]),
    (MemoryError("Unable to allocate 5 GiB"), ["used up: Unable to allocate 5 GiB", "rollout.slots"]),
    (ModuleNotFoundError("no", name="fastapi"), ["no module named 'fastapi'", "[serve]"]),
    (ModuleNotFoundError("no", name="httpx.sub"), ["no module named 'httpx.sub'", "[servers]"]),
    (ModuleNotFoundError("no", name="nonesuch"), ["no module named 'nonesuch'", "pip install -e ."]),
    (ImportError("cannot import name 'x'"), ["cannot import name 'x'", "pip install -e ."]),
    (RuntimeError("Could not determine home directory."), ["begins with ~", "set HOME"]),
    (type("JaxRuntimeError", (RuntimeError,), {})("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
     ["A device's memory is used up", "train.tokens_per_micro_batch"]),
    (KeyboardInterrupt(), ["Interrupted (Ctrl-C)", "same command again"])])
def test_an_error_is_told_as_one_paragraph_with_its_mend(error, words, monkeypatch):
    monkeypatch.setattr(foreign_errors, "_requirements", lambda: [
        "fastapi>=0.115; extra == 'test-core'", "fastapi>=0.115; extra == 'serve'",
        "httpx>=0.28; extra == 'servers'"])
    monkeypatch.setattr(endings, "_full_stream", str)
    told = endings.text(error)
    assert told.startswith("Error: ") and "\n\n" not in told and all(len(line) <= 200 for line in
                                                                     told.splitlines())
    assert all(word in " ".join(told.split()) for word in words), told


def test_an_error_that_nobody_foresaw_says_where_it_was_and_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(endings.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyError) as caught:
        {}["lost\nkey"]
    told = " ".join(endings.text(caught.value).split())
    [kept] = tmp_path.iterdir()
    assert "KeyError: 'lost\\nkey'" in told and "test_endings.py, line" in told and str(kept) in told
    assert "--debug" in told and "Traceback" in kept.read_text()


def test_a_full_disk_names_the_file_that_was_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(OSError) as caught, path.open("w") as file:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file.fileno())
        os.close(full)
        file.write("row")
    assert f"{str(path)!r}: No space left" in str(system_error(caught.value))
    with pytest.raises(OSError) as caught:
        pathlib.Path("/dev/full").write_text("row")
    assert "'/dev/full': No space left" in str(system_error(caught.value))


def test_of_a_file_that_can_neither_be_written_nor_closed_the_first_error_is_told(tmp_path):
    class Log:
        def __init__(self):
            self._stream = open("/dev/full", "w")

        def close(self):
            self._stream.write("row")
            self._stream.close()
    with pytest.raises(OSError) as caught:
        Log().close()
    assert "'/dev/full': No space left" in endings.text(caught.value)
    with pytest.raises(OSError) as caught:
        try:
            raise UserError("metrics.jsonl cannot be written.")
        finally:
            Log().close()
    assert endings.text(caught.value) == "Error: metrics.jsonl cannot be written."


@pytest.mark.parametrize("path, read", [("~/x", "/home/her/x"), ("x/~y", "x/~y"), ("Qwen/Qwen3-8B",) * 2])
def test_a_path_from_home_is_filled_in(path, read, monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    assert usable(path) == read


@pytest.mark.parametrize("path, words", [("~nonesuch_user/x", "home folder"), ("a\0b", "NUL")])
def test_a_path_that_cannot_be_is_refused(path, words):
    with pytest.raises(UserError, match=words):
        usable(path)


@pytest.mark.parametrize("text, words", [
    ("raise ValueError('two\\nlines')", "Error: ValueError: two lines. Nobody"),
    ("import threading, time\nthreading.Thread(target=lambda: 1 / 0).start()\ntime.sleep(30)",
     "Error: ZeroDivisionError: division by zero"),
    ("import nonesuch", "Error: There is no module named 'nonesuch'"),
    ("def again(): again()\nagain()", "Error: RecursionError: maximum"),
    ("open('/nonesuch/file')", "Error: '/nonesuch/file': No such file")])
def test_whatever_nobody_catches_is_one_paragraph(text, words, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, _, err = ended(text)
    assert status == 1 and " ".join(err.split()).startswith(words), err
    assert "Traceback" not in err and "\n\n" not in err


def test_the_option_debug_prints_the_traceback_before_the_paragraph():
    status, _, err = ended("raise ValueError('odd')", "--debug")
    assert status == 1 and err.startswith("Traceback (most recent call last)")
    assert "\nError: ValueError: odd" in err
    assert not endings.wants_debug(["--debug=false"]) and endings.wants_debug(["a", "--debug=True"])


def interrupted(text, presses):
    process = script(text)
    assert process.stdout.readline() == "busy\n"
    for _ in range(presses):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_ctrl_c_is_one_paragraph_and_what_shells_know_as_130():
    code, _, err = interrupted("print('busy', flush=True)\nimport time\ntime.sleep(60)", 1)
    assert code in (endings.INTERRUPTED, -signal.SIGINT) and err.count("\n") == 1 and "Interrupted" in err


def test_where_ctrl_c_is_ignored_a_thread_that_dies_ends_the_process_all_the_same():
    text = ("import os, signal, threading, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.2)\n"
            "threading.Thread(target=lambda: 1 / 0).start()\ntime.sleep(30)")
    code, _, err = ended(text, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert code == 1 and "ZeroDivisionError" in err and "Interrupted" not in err


def test_a_second_ctrl_c_ends_what_does_not_hear_the_first():
    code, _, err = interrupted(BUSY, 2)
    assert code == endings.INTERRUPTED == 130 and err.count("\n") == 1 and "Interrupted" in err


def test_a_reader_that_goes_away_is_no_error():
    process = script("for _ in range(10**6): print('x' * 99)")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 1 and process.stderr.read() == ""


def test_output_on_a_full_disk_is_named():
    with open("/dev/full", "w") as full:
        status, _, err = ended("print('x')\nendings.flush_output()", stdout=full)
    assert status == 1 and "standard output: No space left" in err and err.count("Error") == 1


def test_closed_streams_are_the_null_device():
    text = ("import os\nfile = open(sys.argv[1], 'w')\nprint('x')\nendings.flush_output()\n"
            "sys.exit(file.fileno() < 3 or sys.stdin.read() != '')")
    command = f'{sys.executable} -c "$0" /dev/null <&- >&- 2>&-'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", command, START + text], env=environment).returncode == 0


def test_what_a_destructor_meets_is_told_in_a_line_unless_it_came_of_an_error():
    text = "class Odd:\n    def __del__(self): raise ValueError('stuck')\nOdd()\n"
    status, _, err = ended(text)
    assert status == 0 and err.count("\n") == 1 and "could not be cleaned up: ValueError: stuck" in err
    status, _, err = ended(text + "raise endings.UserError('wrong')")
    assert (status, err) == (1, "Error: wrong\n")
