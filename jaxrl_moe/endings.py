"""How a command ends: every error as one paragraph and an exit code, its traceback with --debug alone."""
import _thread
import atexit
import os
import re
import select
import signal
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from jaxrl_moe import foreign_errors
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.system_errors import system_error
from jaxrl_moe.types import UserError

WIDTH = 120
LONGEST = 2500  # characters of an entry
INTERRUPTED = 128 + signal.SIGINT  # as shells tell that Ctrl-C ended a command
_AGAIN = "Give the same command again to go on: a run goes on from its newest checkpoint."
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_from_threads: list[BaseException] = []
_in_destructors: list[str] = []
_told = False
_installed = False


def install() -> None:
    """To be called first by every command, before imports that take seconds. From then on an error that
    nobody catches, in whatever thread, ends the process with one paragraph; a second Ctrl-C ends it at once;
    and what was closed of stdin, stdout and stderr is the null device, lest another file take its place."""
    global _installed
    if _installed:
        return
    _installed = True
    _fill_streams()
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    if not wants_debug(sys.argv):
        sys.unraisablehook = _keep_unraisable
        atexit.register(_tell_unraisable)
    _hear_interrupts()


def wants_debug(arguments: Sequence[str]) -> bool:
    """Whether the command line has --debug, which must be known even where the rest of it is wrong."""
    return any(re.fullmatch(r"--?debug(=(true|t|1|yes|y))?", argument, re.I) for argument in arguments)


def tell(error: BaseException) -> int:
    """Prints the error, or what a thread died of where that interrupted this one; returns the exit code."""
    global _told
    _told = True
    if isinstance(error, KeyboardInterrupt) and _from_threads:
        error = _from_threads[0]
    if _is_end_of_pipe(error):
        return 1
    if wants_debug(sys.argv):
        traceback.print_exception(error)
    else:
        warnings.simplefilter("ignore")  # of what the error left unfinished
    print(text(error), file=sys.stderr, flush=True)
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def text(error: BaseException) -> str:
    """The error as one paragraph."""
    return paragraph(_mended(error))


def paragraph(error: BaseException) -> str:
    """The error's message as one wrapped paragraph; of several problems as a wrapped list, one an entry. What
    cannot be shown is escaped, and an endless entry cut."""
    several = len(getattr(error, "problems", ())) > 1
    lines = str(error).splitlines() if several else [" ".join(str(error).split("\n"))]
    lines = [cut(escaped(line), LONGEST) for line in lines]
    entries = [_filled(f"Error: {lines[0]}", ""), *(_filled(line, "   ") for line in lines[1:])]
    return "\n".join(entries)


def flush_output() -> None:
    """Hands what was printed to whoever reads it, so that a full disk or a reader that is gone is an error
    here and not noise at the interpreter's end."""
    sys.stdout.flush()


def _mended(error: BaseException) -> BaseException:
    before = error
    while isinstance(before, OSError) and before.__context__:  # closing what cannot be written fails again
        before = before.__context__
    if isinstance(before, UserError):
        return before
    if isinstance(error, UserError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return UserError(f"Interrupted (Ctrl-C). {_AGAIN}")
    if isinstance(error, OSError):
        return system_error(error, stream=_full_stream() if error.filename is None else "")
    return foreign_errors.known(error) or _unforeseen(error)


def _unforeseen(error: BaseException) -> UserError:
    """What nobody thought of: where it happened, and its traceback in a file, since a run of hours cannot be
    asked to fail again."""
    message = " ".join(str(error).split())[:600]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_ROOT) and "/.venv" not in frame.filename]
    where = f", in {ours[-1].filename}, line {ours[-1].lineno}" if ours else ""
    return UserError(f"{type(error).__name__}: {message or 'no more is known'}{where}. Nobody foresaw this: "
                     f"{_kept(error)}please report it with its traceback, which the option --debug prints.")


def _kept(error: BaseException) -> str:
    if wants_debug(sys.argv):
        return ""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="jaxrl_moe_", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError:  # no room for it, or no folder: --debug is left, and is named
        return ""
    return f"its traceback lies in {file.name}; "


def _is_end_of_pipe(error: BaseException) -> bool:
    """Whether the reader of our output went, as `head` does: no error, and nobody to tell. What is still to
    be written goes nowhere, so that the interpreter does not try it again."""
    if not isinstance(error, BrokenPipeError):
        return False
    poll = select.poll()
    poll.register(1, 0)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _full_stream() -> str:
    """The name of our output where that is what cannot be written; empty where it can."""
    try:
        os.write(1, b"\n")
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return "standard output"
    return ""


def _uncaught(_: type, error: BaseException, __: Any) -> None:
    code = tell(error)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if isinstance(error, KeyboardInterrupt) and code != INTERRUPTED:  # which Python would end as Ctrl-C does
        sys.stdout.flush()
        os._exit(code)


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    """Ends the main thread, which tells it."""
    if not issubclass(arguments.exc_type, SystemExit):
        _from_threads.append(arguments.exc_value)
        _thread.interrupt_main()


def _keep_unraisable(arguments: Any) -> None:
    error = " ".join(f"{arguments.exc_type.__name__}: {arguments.exc_value}".split())
    _in_destructors.append(f"Warning: {arguments.object!r} could not be cleaned up: {error[:300]}")


def _tell_unraisable() -> None:
    """What destructors met; where an error was told it came of that."""
    for line in [] if _told else _in_destructors:
        print(line, file=sys.stderr)


def _hear_interrupts() -> None:
    """A thread that hears Ctrl-C even while the main one compiles, and takes the second one for impatience.
    A command that handles signals by itself takes them from here."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a script starts with &
        signal.signal(signal.SIGINT, _hear_threads_alone)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_count_interrupts, args=(reading,), daemon=True, name="interrupts").start()


def _hear_threads_alone(*_: Any) -> None:
    """Ctrl-C stays ignored, but a thread that dies still ends the main one, which would not hear it else."""
    if _from_threads:
        raise KeyboardInterrupt


def _count_interrupts(reading: int) -> None:
    count = 0
    while True:
        count += os.read(reading, 1)[0] == signal.SIGINT
        if count == 2 and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            print(text(KeyboardInterrupt()), file=sys.stderr, flush=True)
            time.sleep(0.05)
            os._exit(INTERRUPTED)


def _fill_streams() -> None:
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode))


def _filled(line: str, indent: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False)
