"""Waiting for what other threads and processes do."""
import time


def wait_until(condition, seconds=60):
    """Fails where it has not come true after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
