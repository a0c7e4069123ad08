"""WebShop as a task: its settings, rows and episodes."""
import concurrent.futures
import json

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.webshop.instructions import shopping_command
from jaxrl_moe.envs.text.webshop.nouns import listed_nouns
from jaxrl_moe.envs.text.webshop.oracle import shopping_moves
from jaxrl_moe.types import Action, ToolCall, UserError

SHOP = "webshop(products=60)"


def said(text):
    return Action(text, 5, False)


def called(name, **arguments):
    return Action("", 5, False, (ToolCall(name, json.dumps(arguments)),))


def plan(task, number):
    return [move.command for move in shopping_moves(task.shop(), task.shop().goals[number], listed_nouns)]


@pytest.mark.parametrize("answer, command", [
    ("Thought:\nI look.\n\nAction:\nsearch[red shoes]", "search red shoes"),
    ("Action: click[Buy Now]", "click Buy Now"), ("search[a] then", "search a"),
    ("CLICK [ < Prev ]", "CLICK  < Prev "),
    ("Action: search[a]\nAction: click[b]", "click b"), ("</think>search[[a]]", "search [a]"),
    ("click[case [of 2]]", "click case [of 2]")])
def test_an_answer_gives_the_command_after_its_last_action(answer, command):
    assert shopping_command(answer) == command


@pytest.mark.parametrize("answer", ["", "search", "search[]", "click[ ]", "buy[it]", "I search[a]", "Action:",
                                    "search[a", "search\n[a]"])
def test_an_answer_without_a_command_is_told_so_and_costs_a_turn(answer):
    env = make_task(SHOP).open({"id": 0}, 0)
    (first,) = env.reset()
    step = env.step(said(answer))
    assert not step.done and step.reward == 0 and step.info == {"correct": 0, "score": 0, "valid": 0}
    assert step.observation[0]["content"].startswith("Invalid action: ")
    assert step.observation[0]["content"].endswith(first["content"])


def test_the_oracles_commands_earn_the_whole_reward():
    task = make_task(SHOP)
    env = task.open({"item_id": "webshop_3"}, 0)
    assert env.available_actions == {"has_search_bar": True, "clickables": ["search"]}
    assert env.reset()[0]["content"] == env.page and env.instruction_text in env.page
    *moves, purchase = plan(task, 3)
    assert not any(env.step(said(f"Action: {move}")).done for move in moves)
    step = env.step(said(f"Action: {purchase}"))
    assert (step.reward, step.done, step.observation) == (1.0, True, ())
    assert step.info == {"correct": 1, "score": 1, "valid": 1, "kind_met": 1, "attributes_met": 1,
                         "options_met": 1, "price_met": 1}
    assert "Your score" in env.page
    with pytest.raises(UserError, match="ended"):
        env.step(said("search[a]"))


def test_a_purchase_without_its_options_is_worth_less():
    task = make_task(SHOP)
    env = task.open({"id": 3}, 0)
    env.reset()
    moves = plan(task, 3)
    item = next(number for number, move in enumerate(moves) if move.startswith("click[ours"))
    for move in moves[:item + 1]:
        env.step(said(move))
    step = env.step(said("click[buy now]"))
    assert step.done and step.reward == pytest.approx(3 / 5)
    assert step.info["correct"] == 0 and step.info["score"] == step.reward and step.info["options_met"] == 0


def test_functions_search_and_click_as_words_do():
    task = make_task("webshop(products=60, answers='functions')")
    assert [tool["function"]["name"] for tool in task.tools({})] == ["search", "click"]
    assert "calling a function" in task.instructions({}) and make_task(SHOP).tools({}) == ()
    by_calls, by_words = task.open({"id": 5}, 0), make_task(SHOP).open({"id": 5}, 0)
    assert by_calls.reset() == by_words.reset()
    for move in plan(task, 5):
        name, value = move[:-1].split("[", 1)
        argument = {"search": "keywords", "click": "value"}[name]
        steps = by_calls.step(called(name, **{argument: value})), by_words.step(said(move))
        assert steps[0].reward == steps[1].reward and steps[0].info == steps[1].info
        assert [message["content"] for message in steps[0].observation] == [
            message["content"] for message in steps[1].observation]
    assert steps[0].reward == 1
    env = task.open({"id": 5}, 0)
    env.reset()
    assert "lacks its argument keywords" in env.step(called("search")).observation[0]["content"]


def test_many_threads_shop_at_once():
    task = make_task(SHOP)

    def shopped(number):
        env = task.open({"id": number}, 0)
        env.reset()
        return [env.step(said(move)) for move in plan(task, number)]

    alone = [shopped(number) for number in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(shopped, range(16))) == alone


@pytest.mark.parametrize("row, told", [
    ({"id": 120}, "no goal 120: the shop has 120"), ({}, "needs the number"),
    ({"id": -1}, "needs the number"),
    ({"item_id": "textcraft_1"}, "needs the number"),
    ({"id": 0, "shop": "ours(products=2000, seed=0)"}, "is of the shop")])
def test_a_row_of_no_goal_is_refused(row, told):
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        make_task(SHOP).check_row(row, 0)
    make_task(SHOP).check_row({"id": 119, "shop": "ours(products=60, seed=0)"}, 0)


@pytest.mark.parametrize("settings, told", [
    ("max_turns=0", "max_turns = 0 is out of range"), ("products=0", "at least 1 and at most 100000"),
    ("products=100001", "at most 100000"), ("seed=-1", "seed = -1"), ("goals='human'", "set data"),
    ("seed=1, data='x'", "set one"), ("goals='all'", "goals"), ("nouns='nltk'", "nouns")])
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(UserError, match=told):
        make_task(f"webshop({settings})")
