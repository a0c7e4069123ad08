"""Games in files, by number: ALFWorld's own as AgentGym numbers them, or those that
scripts/make_alfworld_games.py wrote."""
import functools
import json
import os
import pathlib
from collections.abc import Iterator

from jaxrl_moe.outside import Fields, parse, read_object
from jaxrl_moe.types import UserError

FOLDER = "json_2.1.1"
GAME = "game.tw-pddl"
INDEX = "games.json"  # of games of our own; they are no games of ALFWorld's
# AgentGym's lists, in the order of their numbers, each with the folder that its games lie in.
MAPPINGS = {"mappings_train.json": "train", "mappings_test.json": "valid_train"}
_DEFAULT = "~/.cache/alfworld"  # where alfworld-download puts them


def data_folder(named: str) -> pathlib.Path:
    """The folder of a task's setting, else of $ALFWORLD_DATA, else where ALFWorld looks."""
    return pathlib.Path(named or os.environ.get("ALFWORLD_DATA") or _DEFAULT).expanduser()


def game_files(folder: pathlib.Path) -> tuple[tuple[pathlib.Path, str], ...]:
    """(path, task type) of the games, in the order of their numbers.

    Raises:
      UserError: there is no list of games, or it cannot be read.
    """
    return _game_files(folder.absolute())


@functools.lru_cache(8)
def _game_files(folder: pathlib.Path) -> tuple[tuple[pathlib.Path, str], ...]:
    index = folder / INDEX
    if index.exists():
        fields = Fields(read_object(index), str(index))
        return tuple((folder / FOLDER / name / GAME, _task_type(name)) for name in fields.strings("games"))
    lists = {folder / name: split for name, split in MAPPINGS.items()}
    missing = [path.name for path in lists if not path.exists()]
    if missing:
        raise UserError(
            f"{folder} has no list of games: put {' and '.join(missing)} of AgentGym "
            f"(agentenv-alfworld/configs) beside ALFWorld's {FOLDER}, which "
            ".venv-alfworld/bin/alfworld-download fetches; or name the folder of other games by "
            "alfworld(data='...'); or play rooms of our own, alfworld(games='rooms').")
    return tuple(entry for path, split in lists.items() for entry in _mapped(path, folder / FOLDER / split))


def _mapped(path: pathlib.Path, games: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    entries = parse(path.read_bytes(), str(path))
    if not isinstance(entries, list):
        raise UserError(f"{path} is no list of games, as AgentGym has it.")
    for position, entry in enumerate(entries):
        fields = Fields(entry, f"{path}, entry {position}")
        name = f"{fields.string('task_type')}/{fields.string('task_id')}"
        yield games / name / GAME, name


def _task_type(name: str) -> str:
    return "/".join(pathlib.PurePosixPath(name).parts[-2:])


def is_listed(folder: pathlib.Path) -> bool:
    """Whether there is a list of games."""
    return (folder / INDEX).exists() or all((folder / name).exists() for name in MAPPINGS)


def is_generated(folder: pathlib.Path) -> bool:
    """Whether the games are of our own."""
    return (folder / INDEX).exists()


def is_held_out(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a game of a folder is one of those that are not trained on."""
    split = path.relative_to(folder.absolute() / FOLDER).parts[0]
    return split == "test" or split.startswith("valid_")


def write_index(folder: pathlib.Path, names: list[str]) -> None:
    """Writes the list of games of our own, each a folder below FOLDER."""
    label = "rooms of jaxrl_moe's own, no games of ALFWorld's"
    text = json.dumps({"generated": True, "what": label, "games": names}, indent=1)
    (folder / INDEX).write_text(text + "\n")
