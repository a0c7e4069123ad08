"""Commands of games as calls of functions."""
import json

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.text.answers import BadAction, action_of
from jaxrl_moe.envs.text.functions import CommandForm, GameFunction, call_of
from jaxrl_moe.types import Action, ToolCall, UserError

USE = GameFunction("use", "Uses something.", "use {tool}[ on {target}]",
                   {"tool": "what", "target?": "on what"})
LOOK = GameFunction("look", "Looks.", "look")
FORM = CommandForm(action_of, (USE, LOOK))


def call(name, arguments="{}"):
    return Action("", 4, False, (ToolCall(name, arguments),))


@pytest.mark.parametrize("name, arguments, command", [
    ("look", "", "look"), ("look", "{}", "look"),
    ("use", '{"tool": "red  key"}', "use red key"),
    ("use", '{"tool": "key", "target": "door\\n2"}', "use key on door 2")])
def test_a_call_is_the_command_of_its_arguments(name, arguments, command):
    assert FORM.command(call(name, arguments)) == command


@pytest.mark.parametrize("action, said", [
    (call("go"), "the functions are use, look"),
    (call("use"), "lacks its argument tool"),
    (call("use", '{"tool": "a", "where": "b"}'), "it takes tool, target"),
    (call("use", '{"tool": 3}'), "tool"),
    (call("use", "[]"), "The call of use"), (call("use", "{"), "The call of use"),
    (Action("Action: look", 3, False), "0 functions were called"),
    (Action("", 3, False, (ToolCall("look", ""),) * 2), "2 functions were called"),
    (Action("", 3, False, (), ("<tool_call>{",)), "could not be read")])
def test_what_is_no_call_of_one_function_is_told_to_the_policy(action, said):
    with pytest.raises(BadAction, match=said):
        FORM.command(action)


@pytest.mark.parametrize("command, name, arguments", [
    ("look", "look", {}), ("use red key", "use", {"tool": "red key"}),
    ("use red key on door 2", "use", {"tool": "red key", "target": "door 2"}),
    ("use key on box on shelf", "use", {"tool": "key", "target": "box on shelf"})])
def test_the_call_of_a_command_gives_it(command, name, arguments):
    found = call_of(command, FORM.functions)
    assert (found.name, json.loads(found.arguments)) == (name, arguments)
    assert FORM.command(Action("", 4, False, (found,))) == command


@pytest.mark.parametrize("command, name", [("look", "look"), ("use a on b", "use"), ("7", "say")])
def test_of_several_functions_that_give_a_command_the_one_that_says_most_is_called(command, name):
    say = GameFunction("say", "Says.", "{words}", {"words": "what"})
    assert call_of(command, (say, *FORM.functions)).name == name


@pytest.mark.parametrize("command", ["", "look around", "use", "use ", "lookuse a"])
def test_a_command_that_no_function_gives_is_refused(command):
    with pytest.raises(UserError, match="the functions are use, look"):
        call_of(command, FORM.functions)


def test_a_function_says_what_it_takes_as_a_schema():
    schema = FORM.tools[0]["function"]
    assert schema["name"] == "use" and schema["parameters"]["required"] == ["tool"]
    assert set(schema["parameters"]["properties"]) == {"tool", "target"}
    assert CommandForm(action_of).tools == ()


@pytest.mark.parametrize("spec, calls", [
    ("textcraft(recipes='small', answers='functions')",
     [("get", '{"count": "1", "item": "flower"}'),
      ("craft", '{"count": "1", "item": "blue dye", "ingredients": "1 flower"}')]),
    ("babyai(answers='functions', steps=2)", [("turn_left", "{}"), ("turn_left", "{}")])])
def test_a_game_is_played_by_calls_and_answers_with_their_results(spec, calls):
    task = make_task(spec)
    row = {"id": 0}
    offered = {tool["function"]["name"] for tool in task.tools(row)}
    assert {name for name, _ in calls} <= offered and "Action:" not in task.instructions(row)
    episode = task.open(row, 0)
    assert episode.reset()[0]["role"] == "user"
    words, = episode.step(Action("Action: inventory", 3, False)).observation
    assert words["role"] == "user" and "0 functions were called" in words["content"]
    first, *_, last = [episode.step(call(*each)) for each in calls]
    assert first.observation[0]["role"] == "tool" and last.done
    episode.close()


@pytest.mark.parametrize("name", ["textcraft", "babyai"])
def test_in_words_a_game_offers_no_functions_and_asks_for_an_action(name):
    task = make_task(name)
    assert task.tools({"id": 0}) == () and "Action:" in task.instructions({"id": 0})
    assert task.wire == name and task.score_range == (0.0, 1.0)
