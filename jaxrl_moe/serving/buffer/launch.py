"""A rollout buffer's server put together, as scripts/serve.py starts it."""
import contextlib
import dataclasses
from collections.abc import Sequence

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.registry import task_name
from jaxrl_moe.outgoing.urls import Allowed
from jaxrl_moe.serving.buffer.app import make_app
from jaxrl_moe.serving.buffer.groups import Rules
from jaxrl_moe.serving.buffer.playing import Playing
from jaxrl_moe.serving.buffer.service import BufferService
from jaxrl_moe.serving.buffer.store import Store
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError


@dataclasses.dataclass(frozen=True)
class BufferOptions:
    """path: of the file; group_size: 0 for what start_rollout says; group_timeout: seconds; accepted_share:
    of a group's size; keep: delivered groups whose conversations are kept; task: with its settings, as in
    env.name, "" for none; task_type: as clients call it, "" for its name; data: files of rows that clients
    may name;
    allow_base_url: prefixes of URLs of policies beside loopback; rollouts: episodes at once; ahead: finished
    groups that may wait for their reader; policy_model, policy_key: of the policy's server; policy_timeout:
    seconds of a turn."""
    path: str
    host: str = "127.0.0.1"
    port: int = 8889
    api_key: str = dataclasses.field(default="", repr=False)
    grace: float = 30.0
    group_size: int = 0
    group_timeout: float = 300.0
    accepted_share: float = 0.7
    keep: int = 1000
    task: str = ""
    task_type: str = ""
    data: Sequence[str] = ()
    allow_base_url: Sequence[str] = ()
    rollouts: int = 64
    ahead: int = 64
    policy_model: str = "custom"
    policy_key: str = dataclasses.field(default="", repr=False)
    policy_timeout: float = 600.0


def serve_buffer(options: BufferOptions) -> None:
    """Serves a buffer until SIGTERM or SIGINT.

    Raises:
      UserError: an option does not fit, the task lacks something here, the file is another's or has a server
        already, or the address cannot be taken.
    """
    server, service = make_server(options)
    plays = f"; plays {service.playing.task_type}" if service.playing else ""
    print(f"Serving the rollout buffer {options.path} at {server.url}{plays}", flush=True)
    server.run()
    print("Stopped; what was not handed out is in the file.", flush=True)


def make_server(options: BufferOptions) -> tuple[HttpServer, BufferService]:
    """The server, which listens already, and what it serves."""
    _check_effects(options)
    rules = Rules(options.group_size, options.group_timeout, options.accepted_share, options.keep)
    allowed = Allowed(options.allow_base_url, "--allow_base_url")
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(contextlib.closing(Store(options.path, rules)))
        playing = _playing(options, store, allowed) if options.task else None
        opened.pop_all()
    service = BufferService(store, playing)
    return HttpServer(service, make_app, host=options.host, port=options.port, api_key=options.api_key,
                      grace=options.grace), service


def _playing(options: BufferOptions, store: Store, allowed: Allowed) -> Playing:
    with contextlib.ExitStack() as opened:
        task = opened.enter_context(contextlib.closing(make_task(options.task)))
        if task.by_agents:
            raise UserError(f"--task={options.task!r} is played by agents elsewhere, who can write their "
                            "episodes to POST /buffer/write themselves: leave --task out.")
        task.ready()
        opened.pop_all()
    return Playing(task, options.task_type or task_name(options.task), options.data, store, allowed,
                   most=options.rollouts, ahead=options.ahead, model=options.policy_model,
                   key=options.policy_key, timeout=options.policy_timeout)


def _check_effects(options: BufferOptions) -> None:
    """Raises UserError for an option that changes nothing beside the others."""
    of_task = {"--task_type": options.task_type, "--data": options.data,
               "--allow_base_url": options.allow_base_url,
               "--policy_key_env": options.policy_key}
    for name, given in of_task.items():
        if given and not options.task:
            raise UserError(f"{name} changes nothing without --task: give that, or leave it out.")
    if options.task and not options.data:
        raise UserError("--task plays the rows of files that the server knows: name one by --data=FILE.")
