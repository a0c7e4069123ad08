"""One worker: its process, started anew whenever it has ended."""
import contextlib
import dataclasses
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from typing import BinaryIO

from jaxrl_moe.serving.envs.launch import EnvOptions
from jaxrl_moe.types import UserError

START_SECONDS = 300.0  # in which a worker must serve
PAUSES = (0.0, 1.0, 5.0, 30.0)  # seconds before a start, the more failed before it the longer
_CHILD = "jaxrl_moe.serving.envs.workers.child"


class Worker:
    """A process that serves some of the sessions.

    Args:
      options: its own, with its share and its number.

    Attributes:
      url: where it serves; empty while it does not.
      key: that it asks for.
      number: among the workers.
      creating: calls of /create that are under way there; created: those that are over.
      replaced: processes that have ended while they should not.
    """

    def __init__(self, options: EnvOptions):
        self.key = secrets.token_urlsafe(32)
        self.number = options.share[0]
        self.creating = 0
        self.created = 0
        self.replaced = 0
        self.url = ""
        self._options = dataclasses.replace(options, host="127.0.0.1", port=0, api_key=self.key)
        self._process: subprocess.Popen | None = None
        self._door = threading.Lock()
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._keep, name=f"worker {self.number}", daemon=True)

    def start(self) -> None:
        """Returns once it serves; from then on it is started anew where it ends.

        Raises:
          UserError: it has ended before, or did not serve in time.
        """
        self._begin()
        self._watch.start()

    def ask_to_end(self) -> None:
        """Lets it end its calls and sessions, without waiting."""
        with self._door:
            asked = self._closing.is_set()
            self._closing.set()
            if self._process is not None and not asked:  # a second signal could end it before its sessions
                self._process.terminate()

    def close(self, seconds: float) -> bool:
        """Waits for its end, and kills it after so many seconds; whether it ended by itself."""
        self.ask_to_end()
        ended = True
        with self._door:
            process = self._process
        if process is not None:
            ended = _waited(process, seconds)
        if self._watch.ident is not None:
            self._watch.join()
        return ended

    def _keep(self) -> None:
        """Waits for the process to end, and starts another, until the worker is to end."""
        failed = 0
        while True:
            process = self._process
            if process is not None:
                code = process.wait()
                process.stdin.close()
                self.url = ""
                if self._closing.is_set():
                    return
                self.replaced += 1
                logging.getLogger(__name__).error("Worker %d has ended with code %d, and its sessions with "
                                                  "it; another is started.", self.number, code)
            if self._closing.wait(PAUSES[min(failed, len(PAUSES) - 1)]):
                return
            try:
                self._begin()
                failed = 0
            except UserError as error:
                failed += 1
                self._process = None
                logging.getLogger(__name__).error("%s", error)

    def _begin(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as reply:
            try:
                process = self._opened(writing)
            finally:
                os.close(writing)
            if process is not None:
                self.url = self._reply(process, reply)

    def _opened(self, reply: int) -> subprocess.Popen | None:
        """The process with its options; None where the worker is to end."""
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with self._door:
            if self._closing.is_set():
                return None
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", _CHILD], stdin=subprocess.PIPE, pass_fds=(reply,),
                env=os.environ | {"PYTHONPATH": paths}, start_new_session=True)
        line = json.dumps(dataclasses.asdict(self._options) | {"reply": reply}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has ended, which its reply tells
            process.stdin.write(line)
            process.stdin.flush()
        return process

    def _reply(self, process: subprocess.Popen, reply: BinaryIO) -> str:
        """The URL that it tells. Raises UserError where it ends before, or is killed as it takes too long."""
        late = threading.Timer(START_SECONDS, process.kill)
        late.start()
        url = reply.read().decode()
        late.cancel()
        if not url:
            raise UserError(f"Worker {self.number} has ended with code {process.wait()} before it served: it "
                            f"says why above, or did not serve within {START_SECONDS:g} seconds.")
        return url


def _waited(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
