"""What commands do: hand-written games, and an oracle that tries every way of sharing out what is given."""
import itertools
import random
from collections import Counter

import pytest

from jaxrl_moe.envs.text.textcraft.game import Game
from jaxrl_moe.envs.text.textcraft.goals import goal_set
from jaxrl_moe.envs.text.textcraft.planner import Goal

BOOK = goal_set("small").book


def play(goal, *commands):
    game = Game(BOOK, goal)
    replies = [game.do(command) for command in commands]
    return game, replies


def test_a_game_is_won_by_the_craft_that_leaves_what_the_goal_asks_for():
    game, replies = play(Goal("stick", 3), "get 2 pine log", "CRAFT 2 pine plank  using 1 pine log",
                         "craft 2 stick using 1 pine plank", "inventory", "craft stick using 1 pine plank")
    assert [reply.text for reply in replies] == [
        "Got 2 pine log", "Crafted 2 pine plank", "Crafted 2 stick",
        "Inventory: [pine log] (1) [pine plank] (1) [stick] (2)", "Crafted 2 stick"]
    assert all(reply.valid for reply in replies) and game.won
    assert game.crafted == ["pine plank", "stick"] and game.carried == {"pine log": 1, "stick": 4}


def test_what_was_used_up_does_not_count_for_the_goal():
    stock = (("oak plank", 3), ("resin", 9))
    game, _ = play(Goal("stick", 4, stock), "craft 2 stick using 1 oak plank",
                   "craft 1 torch using 1 stick, 1 resin", "craft 2 stick using 1 oak plank")
    assert not game.won and game.carried["stick"] == 3
    assert game.do("craft 2 stick using 1 oak plank").valid and game.won


def test_a_goal_of_minecraft_is_won_whatever_number_the_command_says():
    game = Game(goal_set("minecraft").book, Goal("stick"))
    for command in ("get 1 oak logs", "craft 1 oak planks using 1 oak logs",
                    "craft 9 stick using 2 oak planks"):
        reply = game.do(command)
    assert reply.text == "Crafted 4 minecraft:stick" and game.won and game.carried["oak planks"] == 2


STOCK = (("ingot", 5), ("oak plank", 2), ("pine plank", 1))


@pytest.mark.parametrize("command, reason", [
    ("dance", "Could not execute dance: the commands are get N item"),
    ("", "Could not execute an empty command"), ("get", "Could not execute get:"),
    ("inventory please", "Could not execute"), ("craft 1 board", "Could not execute craft 1 board"),
    ("get coal", "Wrong item format: coal. Write a number and an item"),
    ("get 2", "Wrong item format: 2"), ("get 2 board", "Could not find board: it is not found, but crafted"),
    ("get 2 plank", "Could not find plank: it stands for any item of a kind. Name one, such as oak plank"),
    ("get 2 unicorn", "Could not find unicorn: there is no such item"),
    ("get 2 oak log, 3 clay", "Could not find oak log, 3 clay: get one item at a time"),
    ("get 0 clay", "Wrong number of items: 0. Write one from 1 to 100000"),
    ("get -3 clay", "Wrong number of items: -3"), ("get 100001 clay", "Wrong number of items: 100001"),
    (f"get 1{'0' * 100} clay", "Wrong number of items: 1000"),
    ("get 1e3 clay", "Wrong item format: 1e3 clay"),
    ("craft 1 board using 2 plank", "Could not craft board from plank: it stands for any item"),
    ("craft 1 plank using 1 oak log", "Could not craft plank: it stands for any item of a kind"),
    ("craft 1 unicorn using 1 horse", "Could not craft unicorn: there is no such item"),
    ("craft 1 clay using 1 sand", "Could not craft clay: it is not crafted, but found"),
    ("craft 1 board using 2 horse", "Could not craft board from horse: there is no such item"),
    ("craft 1 board using 1 oak plank", "Could not find a valid recipe for board from 1 oak plank: one"),
    ("craft 1 board using 3 oak plank", "Could not find a valid recipe for board"),
    ("craft 1 board using 1 oak plank, 1 pine plank", "Could not find a valid recipe for board"),
    ("craft 1 board using 2 oak plank, 1 ingot", "Could not find a valid recipe for board"),
    ("craft 1 board using 2 pine plank", "items to craft board: it takes 2 pine plank, and you have 1"),
    ("craft 1 wall using 3 brick, 1 mortar", "enough items to craft wall: it takes 3 brick, and you have 0"),
    ("craft 1 board using oak plank", "Wrong item format: oak plank"),
    ("craft 1 board using 2 oak plank,", "Wrong item format: nothing"),
    ("craft 0 board using 2 oak plank", "Wrong number of items: 0"),
    ("craft 1 board using -2 oak plank", "Wrong number of items: -2"),
    ("craft 1 board using " + "1 oak plank, " * 200, "Could not execute a command of 26"),
    ("x" * 10**6, "Could not execute a command of 1000000 characters: write one of at most 1000")],
    ids=lambda text: text[:30])
def test_an_impossible_command_changes_nothing_and_says_why(command, reason):
    game, (reply,) = play(Goal("chest", 1, STOCK), command)
    assert reason in reply.text and not reply.valid and len(reply.text) < 300
    assert game.carried == dict(STOCK) and not game.crafted and not game.won


def test_the_same_item_twice_is_the_sum():
    game, (reply,) = play(Goal("chest", 1, STOCK), "craft 1 board using 1 oak plank, 1 oak plank")
    assert reply.valid and game.carried == {"ingot": 5, "pine plank": 1, "board": 1}


def shares_out(recipe, given):
    """Whether some order of what is given is the recipe's ingredients, one by one."""
    return any(len(order) == len(recipe.ingredients) and all(
        count == part.count and item in BOOK.choices(part)
        for (item, count), part in zip(order, recipe.ingredients)) for order in itertools.permutations(given))


def test_random_crafts_do_what_an_oracle_says_and_no_item_is_lost_or_made_of_nothing():
    dice = random.Random(3)
    items = sorted(BOOK.items)
    outcomes = Counter()
    for _ in range(4000):
        product = dice.choice(sorted(BOOK.recipes))
        parts = dice.choice(BOOK.recipes[product]).ingredients
        given = {dice.choice(BOOK.choices(part)): part.count for part in parts}
        if dice.random() < 0.3:
            given[dice.choice(items)] = dice.randint(1, 3)
        stock = {item: dice.randint(1, 6) for item in given if dice.random() < 0.9}
        order = dice.sample(sorted(given.items()), len(given))
        game = Game(BOOK, Goal("tent", 1, tuple(stock.items())))
        reply = game.do(f"craft {product} using {', '.join(f'{count} {item}' for item, count in order)}")
        fitting = [recipe for recipe in BOOK.recipes[product] if shares_out(recipe, order)]
        possible = bool(fitting) and all(stock.get(item, 0) >= count for item, count in order)
        expected = Counter(stock)
        if possible:
            expected -= Counter(given)
            expected[product] += fitting[0].made
        assert reply.valid == possible and Counter(game.carried) == expected
        assert all(count > 0 for count in game.carried.values())
        outcomes[possible, bool(fitting)] += 1
    assert min(outcomes[key] for key in ((True, True), (False, True), (False, False))) > 300
