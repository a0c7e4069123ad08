"""Writes text games by ALFWorld's rules in rooms of our own, for where its data set is not at hand.

    python scripts/make_alfworld_games.py --count=120 --out=runs/alfworld_games

They are no games of ALFWorld's, and scores in them are no scores of ALFWorld's: each file says that it is
generated, and so do the types of tasks that a server tells. Each game has been won before it is listed. About
an eighth of them lie in the folder "test", and no room with its task is in both. Play them with
env.name="alfworld(data='runs/alfworld_games')"; the same rooms without files are alfworld(games='rooms') and
alfworld(games='small'). Needs the environment that `make alfworld` makes. See docs/agents/alfworld.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib

from jaxrl_moe import cli
from jaxrl_moe.options import define_number, define_path, define_text
from jaxrl_moe.types import UserError

COUNT = define_number("count", 72, "of games; the six types of tasks take turns", 1, 100_000)
SEED = define_number("seed", 0, "decides which games", 0, 2000)
OUT = define_path("out", None, "the folder that they are written to (required)")
GAMES = define_text("games", "rooms", "rooms | small: rooms with many things, or with few")
PYTHON = define_text("python", "", "of the environment with the package alfworld; empty: .venv-alfworld")


def main() -> None:
    cli.require(OUT)
    if GAMES.value not in ("rooms", "small"):
        raise UserError(f"--games = {GAMES.value!r} is not known: give rooms or small.")
    from jaxrl_moe.envs.text.alfworld import AlfWorld
    from jaxrl_moe.envs.text.alfworld.export import write_games
    task = AlfWorld(games=GAMES.value, python=PYTHON.value)
    try:
        write_games(task, pathlib.Path(OUT.value), COUNT.value, SEED.value, tell)
    finally:
        task.close()
    print(f"{COUNT.value} games in {OUT.value}: generated, no games of ALFWorld's.")


def tell(done: int, name: str) -> None:
    print(f"{done} of {COUNT.value}: {name}", flush=True)


if __name__ == "__main__":
    cli.run(main, recipe=False)
