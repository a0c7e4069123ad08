"""Shows what a run drew and learnt in a browser, while it goes on: curves, steps, groups, and every episode
turn by turn, its tokens coloured by advantage, log-prob, mismatch or mask. Two runs are shown side by side.

    python scripts/view.py runs/quickstart
    python scripts/view.py runs/quickstart runs/other --port=8401

Needs the extra `serve`: pip install -e ".[serve]". Only this machine can open the page; from another one,
forward the port: ssh -L 8400:127.0.0.1:8400 HOST. See docs/viewer.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.options import define_number
from jaxrl_moe.types import UserError

HOST = flags.DEFINE_string("host", "127.0.0.1", "address to listen on, one of this machine alone")
PORT = define_number("port", 8400, "0 takes a free one", 0, 65535)


def main(folders: list[str]) -> None:
    if not folders:
        raise UserError("No run is given: python scripts/view.py RUN_DIR [OTHER_RUN], such as "
                        "python scripts/view.py runs/quickstart. See --help.")
    from jaxrl_moe.serving.viewer import launch  # after the flags: without the extra it says so
    launch.view(folders, host=HOST.value, port=PORT.value)


if __name__ == "__main__":
    cli.run(main, recipe=False, folders=True)
