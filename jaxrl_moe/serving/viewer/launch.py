"""The viewer, put together; scripts/view.py calls it."""
from collections.abc import Sequence

from jaxrl_moe.hosts.addresses import is_loopback
from jaxrl_moe.serving.server import HttpServer
from jaxrl_moe.serving.viewer.app import make_viewer
from jaxrl_moe.serving.viewer.folders import run_folder
from jaxrl_moe.serving.viewer.shown import ShownRuns
from jaxrl_moe.types import UserError

MOST_RUNS = 2
_GRACE = 1.0  # seconds: nobody loses anything by an answer that does not come


def view(paths: Sequence[str], *, host: str = "127.0.0.1", port: int = 0) -> None:
    """Shows one run or two until SIGTERM or SIGINT.

    Args:
      paths: of run folders.
      host: an address of this machine that no other can reach.
      port: 0 takes a free one.

    Raises:
      UserError: what is to be shown is no run, or the address cannot be taken.
    """
    if not 1 <= len(paths) <= MOST_RUNS:
        raise UserError(f"{len(paths)} folders are given; one run or two are shown: "
                        "python scripts/view.py RUN_DIR [OTHER_RUN].")
    if not is_loopback(host):
        raise UserError(f"--host={host} can be reached from other machines, and what a run drew is for its "
                        "owner. Listen on 127.0.0.1; from another machine, forward the port with "
                        "ssh -L 8400:127.0.0.1:8400 HOST.")
    folders = [run_folder(path) for path in paths]
    with ShownRuns(folders) as runs:
        server = HttpServer(runs, lambda runs, _: make_viewer(runs), host=host, port=port, grace=_GRACE)
        print(f"Showing {' and '.join(map(str, folders))} at {server.url} until Ctrl-C.", flush=True)
        server.run()
