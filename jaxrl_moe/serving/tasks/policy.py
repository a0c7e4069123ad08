"""Asking the policy: chat completions at a URL that the client of the task app named."""
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.outgoing.calls import StatusError
from jaxrl_moe.outgoing.connection import Connection
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.policy.client import BUSY, BUSY_SECONDS, CALL, PATIENCE, PolicyRefused
from jaxrl_moe.serving.policy.reading import Written, written
from jaxrl_moe.serving.tasks.bodies import PolicyConfig
from jaxrl_moe.types import EnvError, Status, UserError


class OutOfTime(Exception):
    """The time of the rollout is over."""


class PolicyCalls:
    """The calls of one rollout. None of this server's own keys goes along.

    Args:
      config: of the request.
      allowed: which URLs may be called.
      seconds: that the rollout has from now on.
      timeout: seconds that a call may take.

    Raises:
      EnvError: its host cannot be found.
      UserError: the URL is none, or may not be called.
    """

    def __init__(self, config: PolicyConfig, allowed: Allowed, seconds: float, timeout: float):
        target = allowed.target(config.url.strip().rstrip("/").removesuffix(CALL) + CALL)
        self._url = target.url
        self._sampling = config.sampling
        self._end = time.monotonic() + seconds
        key = config.api_key.get_secret_value() if config.api_key else ""
        self._timeout = timeout
        self._closing = threading.Lock()
        self._closed = threading.Event()
        self._connection = Connection(timeout, min(PATIENCE, timeout), key, target=target)
        self._clock = threading.Timer(seconds, self.close)
        self._clock.daemon = True
        self._clock.start()

    @property
    def over(self) -> bool:
        """Whether the rollout's time is."""
        return time.monotonic() >= self._end

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> Written:
        """The policy's next turn.

        Raises:
          OutOfTime: the rollout's time ended before it came.
          PolicyRefused: the policy's server does not take the request.
          UserError: none came, or none that can be understood.
        """
        body = self._sampling | {"messages": list(messages)}
        try:
            return written(self._patient(body), f"The answer of {self._url}")
        except OutsideError as error:
            raise EnvError(Status.MALFORMED, str(error)) from error
        except UserError as error:
            if self.over:
                raise OutOfTime from error
            raise

    def _patient(self, body: Mapping[str, Any]) -> Any:
        """The answer of a server that is asked again while it is busy, for as long as a call may take."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                return self._connection.post(self._url, body, Status.STEP_FAILED)
            except StatusError as error:
                if error.code in BUSY and time.monotonic() < end and not self._closed.wait(BUSY_SECONDS):
                    continue
                if 400 <= error.code < 500 and error.code not in BUSY:
                    raise PolicyRefused(error.status, str(error)) from error
                raise

    def close(self) -> None:
        """Ends a call that is at work, and the connection. Any thread may call it."""
        self._clock.cancel()
        self._closed.set()
        with self._closing:  # a connection cannot be closed twice at once
            self._connection.close()
