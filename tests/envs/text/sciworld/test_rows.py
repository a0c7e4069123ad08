"""Data on ScienceWorld: splits, and what players do, who play in a task that has no Java process."""
import re

import pytest

from jaxrl_moe.envs.text.answers import last_command
from jaxrl_moe.envs.text.sciworld import players, rows
from jaxrl_moe.envs.text.sciworld.game import Told
from jaxrl_moe.envs.text.sciworld.task import SciWorld
from jaxrl_moe.envs.text.sciworld.variations import TASKS, split_of, variation_of
from jaxrl_moe.runs.generated import GENERATORS
from jaxrl_moe.types import UserError

FIELD = ("Here you see: \n\tthe agent\n\tan axe\n\ta baby mouse\n\ta fire pit (containing nothing)\n"
         "\ta parrot egg\n")
PATH = ["open door to outside", "go to outside", "focus on egg parrot", "wait1"]


class Field:
    """Stands for a Game: a field with a parrot, the right one, and a mouse."""
    task_description = "Find it."

    def begin(self):
        return Told("A hall.", 0, False)

    def do(self, command):
        if command.startswith("focus on "):
            won = {*command.split()[2:]} == {"parrot", "egg"}
            return Told("You focus.", 100 if won else -100, True)
        return Told(FIELD if command == "look around" else "You go.", 50, False)

    def gold(self):
        return PATH

    def end(self):
        pass


@pytest.fixture
def fields(monkeypatch):
    """Variations asked for; all are fields."""
    asked = []

    def game(task, row):
        asked.append((task.variation(row), task.simplifications))
        return Field()

    monkeypatch.setattr(SciWorld, "game", game)
    monkeypatch.setattr(SciWorld, "ready", lambda task: None)
    return asked


def commands(row):
    return [last_command(message["content"]) for message in row["messages"] if message["role"] == "assistant"]


@pytest.mark.parametrize("terse", [False, True])
def test_prompts_of_the_splits_share_no_variation_and_follow_from_the_seed(terse):
    made = {split: rows.prompts(10_000, 0, split, terse) for split in ("train", "test")}
    named = {split: [variation_of(row) for row in every] for split, every in made.items()}
    for split, every in named.items():
        assert len(set(every)) == len(every) > 50
        assert all(number in split_of(task, split) for task, number in every)
    assert not set(named["train"]) & set(named["test"])
    assert rows.prompts(9, 0, "train", terse) == made["train"][:9] != rows.prompts(9, 1, "train", terse)
    (system,) = made["train"][0]["prompt"]
    assert system["role"] == "system" and ("Thought:" in system["content"]) is not terse


def test_prompts_are_of_the_tasks_that_are_named():
    made = rows.prompts(10, 0, "test", False, tasks="grow-plant,boil")
    assert {variation_of(row).task for row in made} == {"grow-plant", "boil"}


def test_the_game_s_own_path_is_told_in_thoughts_and_ends_with_the_task(fields):
    made = rows.conversations(20, 0, "train", False, tasks="find-animal", jvms=2)
    assert len(made) == 20 and {commands(row)[-1] for row in made} == {"focus on egg parrot"}
    roles = [message["role"] for message in made[0]["messages"]]
    assert roles == ["system", "user"] + ["assistant", "user"] * 2 + ["assistant"]
    assert all(re.fullmatch(r"Thought:\n\S.*\.\n\nAction:\n\S.*", message["content"])
               for row in made for message in row["messages"] if message["role"] == "assistant")
    assert [variation_of(row) for row in made] == [variation for variation, _ in fields][:40:2]
    assert {simplified for _, simplified in fields} == {""}


def test_a_path_that_does_not_end_at_100_is_no_example(fields, monkeypatch):
    monkeypatch.setattr(Field, "gold", lambda self: PATH[:2])
    with pytest.raises(UserError, match="None of these variations has an episode that ends"):
        rows.conversations(4, 0, "train", False, tasks="find-animal", jvms=1)


def test_of_two_players_one_knows_and_the_other_focuses_on_any_animal(fields):
    made = rows.conversations(400, 0, "train", True, jvms=1)
    played = {is_careful: {tuple(commands(row)) for row in made if row["careful"] is is_careful}
              for is_careful in (True, False)}
    assert played[True] == {(*players.OUTSIDE, "focus on parrot egg")}
    assert played[False] == {(*players.OUTSIDE, f"focus on {name}") for name in ("parrot egg", "baby mouse")}
    assert 150 < sum(row["careful"] for row in made) < 250
    assert made == rows.conversations(400, 0, "train", True, jvms=2)
    assert {simplified for _, simplified in fields} == {"easy"}
    careful = rows.conversations(9, 0, "train", True, careful=1.0, jvms=1)
    assert all(row["careful"] for row in careful)


def test_a_field_without_the_animal_that_is_asked_for_has_no_right_one(fields, monkeypatch):
    monkeypatch.setattr(Field, "gold", lambda self: ["focus on ant"])
    assert players.Meadow(SciWorld(), {"id": 0}).right == ""
    with pytest.raises(UserError, match="None of these"):
        rows.conversations(4, 0, "train", True, jvms=1)


@pytest.mark.parametrize("command, thought", [
    ("look around", "I see what there is here."), ("0", "Of the things that are meant, it is this one."),
    ("go to kitchen", "My way leads to kitchen."), ("wait1", "What goes on here takes its time.")])
def test_a_thought_goes_with_its_command(command, thought):
    assert players.thought(command) == thought


def test_the_tasks_of_the_data_are_the_game_s_and_a_run_can_generate_them(fields):
    assert set(f"{rows.SHORT_TASKS},{rows.MEADOW_TASKS}".split(",")) < set(TASKS)
    made = GENERATORS["sciworld_terse"](1)
    assert {name: len(every) for name, every in made.items()} == {"train": 124, "eval": 64, "sft": 1024}
