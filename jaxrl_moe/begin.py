"""The first line of every command's script; it imports nothing that takes time."""
import signal
import threading
import time

BEGAN = time.monotonic()  # when the command did

def command() -> None:
    """Gives the process the endings of a command, see endings.install. Until they are loaded, Ctrl-C ends it
    without a word, where Python would print what was being imported."""
    main = threading.current_thread() is threading.main_thread()
    python = signal.default_int_handler
    heard = main and signal.getsignal(signal.SIGINT) is python
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from jaxrl_moe import endings
    if heard:
        signal.signal(signal.SIGINT, python)
    endings.install()
