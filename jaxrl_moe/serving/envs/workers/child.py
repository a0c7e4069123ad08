"""A worker's process: it serves its share of the sessions on a port of its own, of which only the parent
knows the key. Whoever starts it writes its options to stdin, in one line, and lets stdin be: where that
closes, the parent is gone, and it ends.

    python -m jaxrl_moe.serving.envs.workers.child
"""
import json
import os
import signal
import sys
import threading
import time

from jaxrl_moe import endings
from jaxrl_moe.serving.envs.launch import EnvOptions, leave, make_server, run

LINGER = 10.0  # seconds beyond the grace, after which a worker whose parent is gone ends in any case


def main() -> None:
    endings.install()
    given = json.loads(sys.stdin.buffer.readline())
    reply = given.pop("reply")
    options = EnvOptions(**given | {"share": tuple(given["share"])})
    server, service = make_server(options)
    threading.Thread(target=_end_with_parent, args=(options.grace,), name="parent", daemon=True).start()
    with os.fdopen(reply, "w") as pipe:
        pipe.write(server.url)
    leave(run(server, service))


def _end_with_parent(grace: float) -> None:
    while os.read(sys.stdin.fileno(), 1):  # not by sys.stdin, whose lock the interpreter wants at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace + LINGER)
    os._exit(1)


if __name__ == "__main__":
    main()
