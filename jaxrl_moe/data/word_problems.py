"""Grade-school word problems made on the spot, with solutions by pupils of two kinds, and the rows of a run
on them.

A problem is a short story with two or three numbers and one or two operations. Whether it belongs to the
training or the held-out set follows from its operations and numbers alone: no held-out problem appears in
training under other names.
"""
import dataclasses
import random
import zlib
from collections.abc import Iterable
from typing import Any

NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kim", "Leo", "Mia",
         "Noah", "Olga", "Paul")
THINGS = ("apples", "books", "cards", "coins", "cookies", "eggs", "marbles", "pears", "pens", "shells",
          "stamps", "toys")
STORIES = {
    "+": ("{name} has {a} {things} and gets {b}. How many now?",
          "A box holds {a} {things}. {name} adds {b}. How many now?"),
    "-": ("{name} has {a} {things} and loses {b}. How many are left?",
          "A box holds {a} {things}. {name} takes {b}. How many are left?"),
    "*": ("{name} has {a} boxes of {b} {things}. How many in all?",
          "{name} buys {a} bags of {b} {things}. How many now?"),
    "+-": ("{name} has {a} {things}, gets {b} and loses {c}. How many are left?",
           "A box holds {a} {things}. {name} adds {b} and takes {c}. How many now?"),
    "-+": ("{name} has {a} {things}, loses {b} and gets {c}. How many now?",
           "A box holds {a} {things}. {name} takes {b} and adds {c}. How many now?"),
    "--": ("{name} has {a} {things}, loses {b} and gives away {c}. How many are left?",
           "A box holds {a} {things}. {name} takes {b}, then {c}. How many are left?"),
    "*+": ("{name} buys {a} bags of {b} {things} and gets {c}. How many in all?",
           "{name} has {a} boxes of {b} {things} and finds {c}. How many now?"),
    "*-": ("{name} has {a} boxes of {b} {things} and loses {c}. How many are left?",
           "{name} buys {a} bags of {b} {things} and gives away {c}. How many now?"),
}
LARGEST = 12          # of a number that is there at first, is added or is taken away
LARGEST_FACTOR = 6
HELD_OUT_SHARE = 8    # one in so many (operations, numbers) is held out
TRAIN_ROWS = 8192
EVAL_ROWS = 512
SFT_ROWS = 24576
CAREFUL_SHARE = 0.3   # of the pupils whose solutions the supervised phase imitates


@dataclasses.dataclass(frozen=True)
class WordProblem:
    """A word problem. `numbers` are one more than `operations`, which apply from left to right."""
    question: str
    operations: str
    numbers: tuple[int, ...]

    @property
    def results(self) -> tuple[int, ...]:
        """The value after each operation; the last is the answer."""
        return _results(self.operations, self.numbers)


def is_held_out(operations: str, numbers: tuple[int, ...]) -> bool:
    """Whether problems with these operations and numbers belong to the held-out set."""
    return zlib.crc32(" ".join([operations, *map(str, numbers)]).encode()) % HELD_OUT_SHARE == 0


def make_problems(count: int, seed: int, *, held_out: bool) -> list[WordProblem]:
    """Returns `count` different problems of one of the two sets, about as many of each kind; no result is
    negative."""
    generator = random.Random(f"problems {seed} {held_out}")
    problems: dict[str, WordProblem] = {}
    while len(problems) < count:
        operations = generator.choice(tuple(STORIES))
        numbers = _draw_numbers(generator, operations)
        while is_held_out(operations, numbers) != held_out or min(_results(operations, numbers)) < 0:
            numbers = _draw_numbers(generator, operations)
        words = {
            "name": generator.choice(NAMES),
            "things": generator.choice(THINGS),
            **dict(zip("abc", numbers))
        }
        problem = WordProblem(generator.choice(STORIES[operations]).format(**words), operations, numbers)
        problems[problem.question] = problem
    return list(problems.values())


def solution(problem: WordProblem, careful: bool) -> str:
    """Returns the steps, one a line, and `#### N`. A careless pupil adds all the numbers up, whatever the
    story says."""
    operations = problem.operations if careful else "+" * len(problem.operations)
    results = _results(operations, problem.numbers)
    steps = zip((problem.numbers[0], *results), operations, problem.numbers[1:], results)
    return "".join(f"{left} {operation} {right} = {result}\n"
                   for left, operation, right, result in steps) + f"#### {results[-1]}"


def prompt_row(problem: WordProblem) -> dict[str, Any]:
    """A row of the prompt data: `prompt`, the integer `answer` and the `operations`."""
    return {"prompt": problem.question, "answer": problem.results[-1], "operations": problem.operations}


def conversation_row(problem: WordProblem, careful: bool) -> dict[str, Any]:
    """A row of the supervised data: the problem and a pupil's solution."""
    messages = [{"role": "user", "content": problem.question},
                {"role": "assistant", "content": solution(problem, careful)}]
    return {"messages": messages, "careful": careful}


def make_rows(seed: int) -> dict[str, Iterable[dict[str, Any]]]:
    """The rows of "train" and "eval" (prompts with answers) and of "sft" (conversations).

    The prompts of "train" and the problems of "sft" come from one set, those of "eval" from the other. A
    supervised model that has learnt to calculate solves CAREFUL_SHARE of the problems and those on which
    careless pupils are right by luck: which pupils to follow is left for RL to find out.
    """
    pupils = random.Random(f"pupils {seed}")
    return {
        "train": map(prompt_row, make_problems(TRAIN_ROWS, seed, held_out=False)),
        "eval": map(prompt_row, make_problems(EVAL_ROWS, seed, held_out=True)),
        "sft": (conversation_row(problem, pupils.random() < CAREFUL_SHARE)
                for problem in make_problems(SFT_ROWS, seed + 1, held_out=False))}


def _draw_numbers(generator: random.Random, operations: str) -> tuple[int, ...]:
    """Numbers for a kind of problem, of either set; its results may be negative."""
    if operations[0] == "*":
        first = [generator.randint(2, LARGEST_FACTOR) for _ in range(2)]
    else:
        first = [generator.randint(1, LARGEST) for _ in range(2)]
    return (*first, *(generator.randint(1, LARGEST) for _ in operations[1:]))


def _results(operations: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    values = [numbers[0]]
    for operation, number in zip(operations, numbers[1:]):
        values.append({
            "+": values[-1] + number,
            "-": values[-1] - number,
            "*": values[-1] * number
        }[operation])
    return tuple(values[1:])
