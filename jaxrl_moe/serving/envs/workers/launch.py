"""A server with several workers put together, as scripts/serve.py starts it."""
import dataclasses

from jaxrl_moe.serving.envs.launch import EnvOptions, checked
from jaxrl_moe.serving.envs.workers.app import make_app
from jaxrl_moe.serving.envs.workers.pool import Workers
from jaxrl_moe.serving.envs.workers.worker import Worker
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.types import UserError


def serve_workers(options: EnvOptions, count: int) -> None:
    """Serves a task's episodes in so many processes until SIGTERM or SIGINT.

    Raises:
      UserError: there is no such task or wire format, a worker cannot start, or the address cannot be taken.
    """
    server, workers = make_server(options, count)
    print(f"Serving {workers.name} at {server.url} by {count} workers", flush=True)
    server.run()
    killed = workers.killed
    but = f" but {killed}, which did not end and were killed" * bool(killed)
    print(f"Stopped; all workers have ended{but}.", flush=True)


def make_server(options: EnvOptions, count: int) -> tuple[HttpServer, Workers]:
    """The server, which listens already, and its workers, which serve."""
    name, wire = checked(options)
    workers = Workers(name, wire, [Worker(share) for share in shares(options, count)], options.grace)
    try:
        workers.start()
    except BaseException:
        workers.close()
        raise
    return HttpServer(workers, make_app, host=options.host, port=options.port, api_key=options.api_key,
                      grace=options.grace), workers


def shares(options: EnvOptions, count: int) -> list[EnvOptions]:
    """The options of each worker, which has its share of the sessions; raises UserError where one has
    none."""
    if options.sessions < count:
        raise UserError(f"{options.sessions} sessions cannot be shared by {count} workers: raise --sessions, "
                        "or lower --workers.")
    least, more = divmod(options.sessions, count)
    rollouts = max(options.rollouts // count, 1)
    return [dataclasses.replace(options, sessions=least + (number < more), rollouts=rollouts,
                                share=(number, count)) for number in range(count)]
