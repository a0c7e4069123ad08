"""The quickstart's data files: word problems to train on, others to evaluate on, and solutions of mixed quality."""
import json
import pathlib
import random
from collections.abc import Iterable, Mapping

from jaxrl_moe.data.word_problems import conversation_row, make_problems, prompt_row

TRAIN_ROWS, EVAL_ROWS, SFT_ROWS = 8192, 512, 24576
CAREFUL_SHARE = 0.3  # of the pupils whose solutions the supervised phase imitates


def write_data(folder: pathlib.Path, seed: int = 0) -> None:
    """Writes train.jsonl and eval.jsonl (prompts with answers) and sft.jsonl (conversations).

    The prompts of train.jsonl and the problems of sft.jsonl come from one set, those of eval.jsonl from another (see
    word_problems). A supervised model that has learnt to calculate solves CAREFUL_SHARE of the problems and those on which
    careless pupils are right by luck: which pupils to follow is left for RL to find out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, held_out in (("train", TRAIN_ROWS, False), ("eval", EVAL_ROWS, True)):
        _write_rows(folder / f"{name}.jsonl", map(prompt_row, make_problems(count, seed, held_out=held_out)))
    pupils = random.Random(f"pupils {seed}")
    problems = make_problems(SFT_ROWS, seed + 1, held_out=False)
    _write_rows(folder / "sft.jsonl", (conversation_row(problem, pupils.random() < CAREFUL_SHARE) for problem in problems))


def _write_rows(path: pathlib.Path, rows: Iterable[Mapping]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
