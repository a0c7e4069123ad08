"""An environment server put together, as scripts/serve.py starts it."""
import contextlib
import dataclasses
import os
import sys
from collections.abc import Sequence

from jaxrl_moe.envs import make_task
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.protocols import Task
from jaxrl_moe.serving.envs.app import EnvService, make_app
from jaxrl_moe.serving.envs.sessions import Sessions
from jaxrl_moe.serving.envs.wires import WIRES, Wire
from jaxrl_moe.serving.rollouts.rollouts import Rollouts
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.spelling import did_you_mean
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class EnvOptions:
    """name: of the task, with its settings in brackets, as in env.name; wire: a row of WIRES, "" for the
    task's own, or that of its name; sessions: at once; idle: seconds after which one expires; grace: seconds
    that calls at work have at the end; allow_base_url: prefixes of URLs of policies that clients may name
    beside loopback; rollouts: episodes of POST /rollouts at work at once; policy_timeout: seconds that a turn
    of a policy may take; rollout_timeout: seconds that a request of them may; share: (which, of how many)
    workers this is."""
    name: str
    wire: str = ""
    host: str = "127.0.0.1"
    port: int = 8081
    api_key: str = ""
    sessions: int = 256
    idle: float = 1800.0
    grace: float = 30.0
    allow_base_url: Sequence[str] = ()
    rollouts: int = 64
    policy_timeout: float = 600.0
    rollout_timeout: float = 3600.0
    share: tuple[int, int] = (0, 1)


def serve_env(options: EnvOptions) -> None:
    """Serves a task's episodes until SIGTERM or SIGINT.

    Raises:
      UserError: there is no such task or wire format, it lacks something here, or the address cannot be
        taken.
    """
    server, service = make_server(options)
    print(f"Serving {service.name} at {server.url}", flush=True)
    held = run(server, service)
    but = f" but {held}, whose environments do not answer" * bool(held)
    print(f"Stopped; all sessions were closed{but}.", flush=True)
    leave(held)


def run(server: HttpServer, service: EnvService) -> int:
    """Serves until SIGTERM or SIGINT; how many sessions still have a call at work then."""
    server.run()
    return service.sessions.held


def leave(held: int) -> None:
    """Ends the process where sessions still have calls at work, whose threads would keep it alive."""
    if held:
        sys.stderr.flush()
        os._exit(0)


def make_server(options: EnvOptions) -> tuple[HttpServer, EnvService]:
    """The server, which listens already, and what it serves."""
    name, wire = checked(options)
    task = make_task(options.name)
    task.ready()
    sessions = Sessions(task, most=options.sessions, idle_seconds=options.idle, tells=wire.tells,
                        share=options.share)
    allowed = Allowed(options.allow_base_url, "--allow_base_url")
    rollouts = Rollouts(name, task.max_turns, sessions, allowed, most=options.rollouts,
                        policy_timeout=options.policy_timeout, seconds=options.rollout_timeout)
    service = EnvService(name, wire, sessions, rollouts)
    return HttpServer(service, make_app, host=options.host, port=options.port, api_key=options.api_key,
                      grace=options.grace), service


def checked(options: EnvOptions) -> tuple[str, Wire]:
    """(name of the task, how its sessions look on the wire); the task is made, and not asked whether it is
    ready.

    Raises:
      UserError: there is no such task or wire format, the task cannot be played so, or a prefix of URLs is
        none.
    """
    name = options.name.partition("(")[0].strip()
    Allowed(options.allow_base_url, "--allow_base_url")
    with contextlib.closing(make_task(options.name)) as task:
        wire = options.wire or task.wire or name
        if wire not in WIRES:
            raise UserError(f"There is no wire format {wire!r}.{did_you_mean(wire, WIRES)} Choose one for "
                            f"the task by --wire: {', '.join(WIRES)}.")
        _check(task, name)
    return name, WIRES[wire]


def _check(task: Task, name: str) -> None:
    """Raises UserError for a task that cannot be played so."""
    if task.max_turns == 1:
        raise UserError(f"The task {name!r} grades one completion of a row's own prompt, which AgentGym's "
                        "protocol does not send: serve an environment of several turns.")
    task.check_row({"id": 0}, 0)
