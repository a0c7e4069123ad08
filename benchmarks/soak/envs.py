"""Many episodes at once at an environment server, some of whose clients vanish or send what is malformed:
whether every episode is its own, and whether sessions, memory or threads stay behind.

    make envs-crowd MINUTES=10
    python -m benchmarks.soak.envs --minutes=10 --clients=64 --env=textcraft

Each environment is served by scripts/serve.py in a process of its own, watched from outside; every episode
is played beside the same one in process, so that an observation of another is seen at once. A section of
benchmarks/envs_crowd.md says what was seen; the exit code is 1 where something is wrong. Needs the extra
`test`.
"""
import contextlib
import functools
import pathlib
import sys
import threading
import time
from collections.abc import Iterator

import httpx
from absl import flags

from benchmarks import table
from benchmarks.soak import drive, server
from benchmarks.soak.clients import LONGEST
from benchmarks.soak.players import SERVED, Players
from benchmarks.soak.server import PAUSE, SOON
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import make_task

IDLE = 20.0      # seconds after which a session expires
HELD = ("env_sessions", "env_sessions_held")  # of the server's metrics
INTRO = f"""# envs_crowd

`make envs-crowd MINUTES=10`: episodes at environment servers, played by the task agentgym and in AgentGym's
plain protocol, each beside the same one in process; by clients of whom some vanish between two calls or in
one, send broken bodies, a megabyte, or calls of sessions that have ended. Looked for: an observation, a
reward or an end that is not the episode's own; an answer of another status than 200, or a mistake that is no
error; a call of /health that takes over {SOON:g} seconds; memory that grows, or threads or open files by more
than the clients open; sessions that are held when all have left and the idle time of {IDLE:g} seconds is
over. The newest stands first.
"""


def health_calls(url: str, over: threading.Event) -> Iterator[float]:
    """Seconds that each of a run of calls of /health took, each over a connection of its own."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=url, timeout=LONGEST, limits=limits) as http:
        while not over.wait(PAUSE):
            began = time.monotonic()
            http.get("/health")
            yield time.monotonic() - began


def crowded(env: str, clients: int, seconds: float, folder: pathlib.Path) -> server.Watched:
    """Serves an environment and lets clients play for a while."""
    spec, draw = SERVED[env]
    options = ["env", f"--name={spec}", f"--idle={IDLE}", "--sessions=4096"]
    with (server.started(options, r"at (http\S+)", folder) as (url, pid),
          contextlib.closing(make_task(spec)) as local,
          contextlib.closing(make_task(f"agentgym(env={env!r}, url={url!r})")) as remote):
        players = Players(url, clients, local, remote, draw)
        seen = server.watched(players, functools.partial(health_calls, url), pid, seconds, folder,
                              connections=2 * clients)
        problems = [*server.left(url, HELD, 3 * IDLE), *seen.problems]
        return server.Watched([env, str(clients), *seen.row], problems)


def define_options() -> None:
    """The options; of the process that runs this module alone, since other modules have some of the same
    name."""
    flags.DEFINE_float("minutes", 10.0, "that the episodes are played, at each server")
    flags.DEFINE_integer("clients", 64, "that play at once, beside the calls that are timed")
    flags.DEFINE_multi_string("env", [], f"environment to serve, of {', '.join(SERVED)}; none: all")
    flags.DEFINE_string("folder", "runs/envs_crowd", "of the servers' logs; deleted before")
    flags.DEFINE_string("output", "benchmarks/envs_crowd.md", "markdown file that gets a section")


def main() -> None:
    options = flags.FLAGS
    if options.minutes <= 0 or options.clients < 1:
        raise ConfigError("--minutes and --clients must be above 0.")
    unknown = set(options.env) - SERVED.keys()
    if unknown:
        raise ConfigError(f"--env={unknown.pop()} is not served here: choose among {', '.join(SERVED)}.")
    circumstances = table.circumstances()
    folder = drive.fresh(pathlib.Path(options.folder).absolute())
    seen = [crowded(env, options.clients, 60 * options.minutes, folder) for env in options.env or SERVED]
    problems = [problem for each in seen for problem in each.problems]
    header = ("environment", "clients", *server.HEADER)
    print(server.write(pathlib.Path(options.output), INTRO, options.minutes, circumstances, header,
                       [each.row for each in seen], problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    define_options()
    cli.run(main, recipe=False)
