"""Games of our own as files of ALFWorld's form, which its own tools and AgentGym's server read too. Each says
that it is generated, and has been won."""
import json
import pathlib
from collections.abc import Callable, Iterator

from jaxrl_moe.envs.text.alfworld.library import FOLDER, GAME, INDEX, write_index
from jaxrl_moe.envs.text.alfworld.planner import plan
from jaxrl_moe.envs.text.alfworld.problem import described
from jaxrl_moe.envs.text.alfworld.rooms import LIGHT, RoomGame, Size, make_game
from jaxrl_moe.envs.text.alfworld.task import AlfWorld
from jaxrl_moe.types import EnvError, Status, UserError

LABEL = "a room of jaxrl_moe's own, drawn at random; no game of ALFWorld's"
_APART = 1_000_000  # numbers of the games of one seed


def write_games(task: AlfWorld, out: pathlib.Path, count: int, seed: int,
                tell: Callable[[int, str], None] = lambda done, name: None) -> None:
    """Writes games and their list; where writing was interrupted, it goes on.

    Args:
      task: of rooms of our own; each game is won by its plan before it is listed.
      out: a folder; games of the split "train" lie in json_2.1.1/train, others in json_2.1.1/test.
      count: of games; the six types of tasks take turns.
      seed: decides which games.
      tell: called after each game with how many there are, and its name.

    Raises:
      UserError: the folder has a list of games already.
      EnvError: a worker fails, or a game cannot be won.
    """
    if (out / INDEX).exists():
        raise UserError(f"{out} has games already ({INDEX}): give another folder, or remove that one.")
    names: list[str] = []
    for game in _games(count, seed, task.games):
        names.append(f"{'test' if game.is_held_out else 'train'}/{game.label}")
        folder = out / FOLDER / names[-1]
        if not (folder / GAME).exists():
            _write(task, folder, game)
        tell(len(names), names[-1])
    write_index(out, names)


def _games(count: int, seed: int, size: Size) -> Iterator[RoomGame]:
    """Games of which none is like another."""
    seen: set[str] = set()
    number = seed * _APART
    while len(seen) < count:
        game = make_game(number, size)
        number += 1
        if game.layout not in seen:
            seen.add(game.layout)
            yield game


def _write(task: AlfWorld, folder: pathlib.Path, game: RoomGame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    commands = plan(game)
    play = task.play()
    try:
        data = play.begin_in_full(described(game))
        for command in commands:
            told = play.step(command)
    finally:
        play.end()
    if not told.won:
        raise EnvError(Status.MALFORMED, f"The game {game.label} is not won by {', '.join(commands)}.")
    label = {"by": "jaxrl_moe", "what": LABEL, "size": game.size, "number": game.number}
    about = {"task_type": game.goal.task, "pddl_params": _params(game), "generated": label}
    _put(folder / "traj_data.json", about)
    _put(folder / GAME, {**data, "solvable": True, "walkthrough": commands, "generated": label})


def _params(game: RoomGame) -> dict[str, str | bool]:
    """The goal as ALFRED names its parts."""
    lit = game.goal.task == LIGHT
    return {"object_target": game.goal.thing, "parent_target": "" if lit else game.goal.place,
            "toggle_target": game.goal.place if lit else "", "mrecep_target": "", "object_sliced": False}


def _put(path: pathlib.Path, value: dict) -> None:
    """Writes a file whole, or not at all."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(json.dumps(value))
    partial.rename(path)
