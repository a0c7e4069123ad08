"""Many clients at one endpoint, some of whom leave, send ten megabytes or let their bodies drip: whether
short requests are answered soon all the while, and whether memory, threads, slots or pages stay behind.

    make crowd MINUTES=10
    python -m benchmarks.soak.crowd --minutes=10 --clients=64

A tiny random model is served by scripts/serve.py in a process of its own, watched from outside. A section of
benchmarks/crowd.md says what was seen; the exit code is 1 where something is wrong. Needs the extra `test`.
"""
import contextlib
import functools
import pathlib
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from absl import flags

from benchmarks import table
from benchmarks.soak import drive, server
from benchmarks.soak.clients import LONGEST, Clients
from benchmarks.soak.server import PAUSE, SOON
from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

MINUTES = flags.DEFINE_float("minutes", 10.0, "that the clients ask")
CLIENTS = flags.DEFINE_integer("clients", 64, "that ask at once, beside the one that is timed")
FOLDER = flags.DEFINE_string("folder", "runs/crowd", "of the model and the server's log; deleted before")
OUTPUT = flags.DEFINE_string("output", "benchmarks/crowd.md", "markdown file that gets a section")
LARGE = 10 * 2**20
DRIP = 20    # bytes of a body that drips, one every PAUSE
HELD = ("samples_in_flight", "engine_kv_pages_used")  # of the server's metrics
INTRO = f"""# crowd

`make crowd MINUTES=10`: clients at one endpoint over a tiny random model, who wait, stream, leave, lose
patience, send bodies of 10 MB (a text, ids, lists in lists) and wait for the answer or leave, or let a body
drip and leave. Looked for: a short request that takes over {SOON:g} seconds; answers of 5xx; memory, threads
or open files that grow; samples or pages that are held when all have left. The newest stands first.
"""


class Crowd(Clients):
    """Clients that also send what is too large, and leave in the middle of it. Which, and how often, follows
    from `manners`."""

    @property
    def manners(self) -> Sequence[Any]:
        return (*super().manners, *super().manners, self._large, self._large_and_leave, self._drip)

    def _large(self, http: httpx.Client, generator: random.Random) -> str:
        answer = http.post("/v1/completions", content=large_body(generator, self._model),
                           headers={"Content-Type": "application/json"})
        if answer.status_code not in (400, 413, 429):
            self.problems.append(f"ten megabytes: status {answer.status_code}: {answer.text[:200]}")
        return "ten megabytes refused"

    def _large_and_leave(self, http: httpx.Client, generator: random.Random) -> str:
        with self._connection() as connection:
            body = large_body(generator, self._model)
            connection.sendall(head(len(body)) + body[:generator.choice([len(body) // 2, len(body)])])
        return "left with ten megabytes"

    def _drip(self, http: httpx.Client, generator: random.Random) -> str:
        with self._connection() as connection:
            connection.sendall(head(LARGE))
            for _ in range(DRIP):
                connection.sendall(b" ")
                if self._over.wait(PAUSE):
                    break
        return "dripped and left"

    def _connection(self) -> socket.socket:
        url = httpx.URL(self._url)
        return socket.create_connection((url.host, url.port), timeout=LONGEST)


# Prompts of about ten megabytes: a text of words, one word, fewer and too many ids, lists in lists.
PROMPTS = (b'"' + b"Ann has 3 boxes. " * (LARGE // 17) + b'"', b'"' + b"a" * LARGE + b'"',
           b"[" + b"5," * (LARGE // 10) + b"5]", b"[" + b"5," * (LARGE // 2) + b"5]",
           b"[" + b"[]," * (LARGE // 3) + b"[]]")


def large_body(generator: random.Random, model: str) -> bytes:
    """A completion's request with one of the PROMPTS."""
    return b'{"model": "%s", "max_tokens": 4, "prompt": %s}' % (model.encode(), generator.choice(PROMPTS))


def head(length: int) -> bytes:
    return (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % length)


def short_requests(url: str, over: threading.Event) -> Iterator[float]:
    """Seconds that each of a run of short requests took, refused for want of room or not."""
    body = {"model": "model", "prompt": "Tom has 3", "max_tokens": 2}
    with httpx.Client(base_url=url, timeout=LONGEST) as http:
        while not over.wait(PAUSE):
            began = time.monotonic()
            http.post("/v1/completions", json=body)
            yield time.monotonic() - began


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    """(url, process id) of a server over a tiny model."""
    from tests.helpers.tiny_models import make_checkpoint
    make_checkpoint(folder / "model", num_hidden_layers=2, max_position_embeddings=128)
    options = [f"--model={folder / 'model'}", "--name=model", "--slots=16", "--max_prompt_tokens=64",
               "--max_tokens=16", "--max_queue=512", "--warmup"]
    with server.started(options, r"at (http\S+)/v1", folder) as found:
        yield found


def main() -> None:
    if MINUTES.value <= 0 or CLIENTS.value < 1:
        raise ConfigError("--minutes and --clients must be above 0.")
    circumstances = table.circumstances()
    folder = drive.fresh(pathlib.Path(FOLDER.value).absolute())
    with served(folder) as (url, pid):
        crowd = Crowd(url, CLIENTS.value, model="model")
        seen = server.watched(crowd, functools.partial(short_requests, url), pid, 60 * MINUTES.value, folder)
        problems = [*server.left(url, HELD), *seen.problems]
    row = [str(CLIENTS.value), *seen.row]
    print(server.write(pathlib.Path(OUTPUT.value), INTRO, MINUTES.value, circumstances,
                       ("clients", *server.HEADER), [row], problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    cli.run(main, recipe=False)
