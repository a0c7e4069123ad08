"""Plays sessions of an OpenEnv server, each over a WebSocket of its own."""
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
from adapter_async import Connection, Loop
from openenv.core.generic_client import GenericEnvClient
from worker_loop import Refused, serve

_KNOCK = 0.1  # seconds between two tries to reach a server that starts
_KEPT = ("done", "reward", "metadata")  # of an observation: they are no part of what is seen
_TYPES = {"integer": int, "number": float}


class OpenEnv:
    """One server, or one command that starts it."""

    def __init__(self) -> None:
        self._loop = Loop()

    def begin(self, command: Sequence[str], url: str, reset: Mapping[str, Any], action_field: str,
              observation_field: str, success: float | None, seconds: float) -> dict[str, Any]:
        _check_packages()
        self._seconds = seconds
        self._url = self._started(command) if command else url
        self._reset = reset
        self.action_field = action_field
        self.observation_field = observation_field
        self.success = success
        self.schema = self._get("/schema")["action"]
        fields = self.schema.get("properties", {})
        if action_field and action_field not in fields:
            known = ", ".join(name for name in fields if name != "metadata")
            raise Refused(f"The server's actions have no field {action_field!r}: write action_field='...' "
                          f"with one of {known or 'none'}, or action_field='' for actions as JSON objects.")
        return {"actions": self.schema}

    def _started(self, command: Sequence[str]) -> str:
        """Starts the server, which ends with this process; returns its URL."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        filled = [word.replace("{port}", port) for word in command]
        try:
            server = subprocess.Popen(filled, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                                      env=os.environ | {"PORT": port})
        except OSError as error:
            raise Refused(f"command = {' '.join(command)!r} cannot be started: {error.strerror}.") from error
        url = f"http://127.0.0.1:{port}"
        self._await(url, server, command)
        return url

    def _await(self, url: str, server: subprocess.Popen, command: Sequence[str]) -> None:
        end = time.monotonic() + self._seconds
        while True:
            if server.poll() is not None:
                raise ConnectionError(f"{' '.join(command)} ended with exit code {server.returncode}")
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise TimeoutError(f"{' '.join(command)} does not answer at {url}/health within "
                                       f"{self._seconds:g} seconds: {error}") from error
                time.sleep(_KNOCK)

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self._url + path, timeout=self._seconds) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ValueError) as error:
            raise ConnectionError(f"{self._url}{path} does not answer as a server of OpenEnv: "
                                  f"{error}") from error

    def open(self, number: int) -> "Session":
        connection = Connection(self._loop, self._client, self._seconds)
        return Session(self, connection, {**self._reset, "seed": number})

    def _client(self) -> GenericEnvClient:
        return GenericEnvClient(base_url=self._url, connect_timeout_s=self._seconds,
                                message_timeout_s=self._seconds, mode="simulation")

    def action(self, command: str) -> dict[str, Any]:
        """The action that a command is; raises ValueError, with words for the policy, for what is none."""
        if not self.action_field:
            action = json.loads(command)
        else:
            kind = self.schema["properties"][self.action_field].get("type")
            action = {self.action_field: _TYPES.get(kind, str)(command)}
        try:
            jsonschema.validate(action, self.schema)
        except jsonschema.ValidationError as error:
            raise ValueError(error.message[:300]) from error
        return action


def _check_packages() -> None:
    """openenv-core of old is the same modules: whichever was installed last would be the one that runs."""
    names = [each.metadata["Name"] or "" for each in importlib.metadata.distributions()]
    if {"openenv", "openenv-core"} <= {name.lower().replace("_", "-") for name in names}:
        raise Refused("Both openenv and openenv-core are installed in this environment, and each overwrites "
                      "the other's modules: uninstall both, and install openenv alone.")


class Session:
    """One session at the server."""

    def __init__(self, server: OpenEnv, connection: Connection, reset: Mapping[str, Any]):
        self._server = server
        self._connection = connection
        self._reset = reset
        self._score = 0.0

    def _text(self, observation: Any) -> str:
        field = self._server.observation_field
        if not isinstance(observation, Mapping):
            return str(observation)
        if field and field not in observation:
            raise ValueError(f"the observation has no field {field!r}: it has {', '.join(observation)}")
        seen = observation[field] if field else {
            name: value for name, value in observation.items() if name not in _KEPT}
        return seen if isinstance(seen, str) else json.dumps(seen)

    def reset(self) -> dict[str, Any]:
        begun = self._connection.call(lambda client: client.reset(**self._reset))
        return {"observation": [self._text(begun.observation)]}

    def step(self, command: str = "", text: str = "") -> dict[str, Any]:
        try:
            action = self._server.action(command or text)
        except ValueError as error:
            return {"observation": [f"That is no action. Nothing was done. {error}"], "reward": 0.0,
                    "done": False, "valid": False, "info": {"score": self._score}}
        result = self._connection.call(lambda client: client.step(action))
        reward = float(result.reward or 0.0)
        self._score += reward
        success = self._server.success
        correct = result.done and (reward > 0 if success is None else self._score >= success)
        shown = "" if result.done else self._text(result.observation)
        return {"observation": [shown], "reward": reward, "done": bool(result.done),
                "info": {"score": self._score, "correct": float(correct)}}

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    serve(OpenEnv())
