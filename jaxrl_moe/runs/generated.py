"""Data that a run makes on the spot, by the name of data.generate."""
import functools
import importlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxrl_moe.data import word_problems
from jaxrl_moe.envs.kernels.choices import rows as choices

FILES = ("train", "eval", "sft")  # prompts, held-out prompts, conversations
Rows = Iterable[Mapping[str, Any]]


def _episodes(module: str, counts: tuple[int, int, int], terse: bool, seed: int,
              **options: Any) -> dict[str, Rows]:
    """The rows of a task of many turns, whose module has prompts() and conversations(); no held-out goal is
    among those of "train" and "sft"."""
    rows = importlib.import_module(module)
    train, held_out, sft = counts
    return {
        "train": rows.prompts(train, seed, "train", terse, **options),
        "eval": rows.prompts(held_out, seed, "test", terse, **options),
        "sft": rows.conversations(sft, seed, "train", terse, **options)}


_TEXTCRAFT = functools.partial(_episodes, "jaxrl_moe.envs.text.textcraft.rows", (2048, 512, 4096))
_BABYAI = functools.partial(_episodes, "jaxrl_moe.envs.text.babyai.rows", (2048, 512, 4096))
_SCIWORLD = "jaxrl_moe.envs.text.sciworld.rows"  # needs Java; its paths take a second each
_ALFWORLD = functools.partial(_episodes, "jaxrl_moe.envs.text.alfworld.rows", (1024, 128, 256))
_WEBSHOP = functools.partial(_episodes, "jaxrl_moe.envs.text.webshop.rows", (2048, 512, 2048))
_WAYS = "GoToRedBallNoDists,GoToObjS6,GoToDoor"  # levels whose missions two actions fulfil: turn, and go
# {name: seed -> the rows of each of FILES}
GENERATORS: Mapping[str, Callable[[int], Mapping[str, Rows]]] = {
    "word_problems": word_problems.make_rows,
    "textcraft": functools.partial(_TEXTCRAFT, False),
    "textcraft_terse": functools.partial(_TEXTCRAFT, True, max_depth=1),
    "babyai": functools.partial(_BABYAI, False),
    "babyai_terse": functools.partial(_BABYAI, True, levels=_WAYS),
    "sciworld": functools.partial(_episodes, _SCIWORLD, (512, 128, 256), False),
    "sciworld_terse": functools.partial(_episodes, _SCIWORLD, (128, 64, 1024), True),
    "alfworld": functools.partial(_ALFWORLD, False),
    "alfworld_terse": functools.partial(_ALFWORLD, True, games="small", turns=8),
    "webshop": functools.partial(_WEBSHOP, False),
    "webshop_terse": functools.partial(_WEBSHOP, True),
    "kernel_choices": choices.make_rows}


def write_data(name: str, folder: pathlib.Path, seed: int) -> None:
    """Writes train.jsonl and eval.jsonl (prompts) and sft.jsonl (conversations) of a row of GENERATORS."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = GENERATORS[name](seed)
    for file in FILES:
        lines = (json.dumps(row) + "\n" for row in rows[file])
        (folder / f"{file}.jsonl").write_text("".join(lines))
