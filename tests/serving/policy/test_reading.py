"""The answers of chat completions: read for what they say, and refused where they say nothing."""
import pytest

from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.policy.reading import LONGEST, written
from jaxrl_moe.types import Action, ToolCall


def answer(message, **others):
    return {"choices": [{"index": 0, "message": message, **others}]}


def called(*names, **others):
    """An answer that calls these."""
    calls = [{"id": f"id_{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}
             for name in names]
    return answer({"role": "assistant", "content": None, "tool_calls": calls}, **others)


def test_a_text_is_an_action_and_goes_back_as_it_came():
    read = written(answer({"role": "assistant", "content": "Go.", "reasoning_content": "Hm."},
                          finish_reason="length") | {"usage": {"completion_tokens": 7}}, "It")
    assert read.action == Action("Go.", 7, True)
    assert read.message == {"role": "assistant", "content": "Go.", "reasoning_content": "Hm."}
    assert read.answered(({"role": "user", "content": "Gone."},)) == [{"role": "user", "content": "Gone."}]


def test_calls_are_read_where_functions_were_offered_alone():
    read = written(called("look", "go"), "It", tools=True)
    assert read.action == Action("", 0, False, (ToolCall("look", "{}"), ToolCall("go", "{}")))
    assert [call["id"] for call in read.message["tool_calls"]] == ["id_look", "id_go"]
    assert written(called("look"), "It").message == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("shown, expected", [
    ([("tool", "a"), ("tool", "b")], [("tool", "a", "id_look"), ("tool", "b", "id_go")]),
    ([("tool", "a")], [("tool", "a", "id_look"), ("tool", "a", "id_go")]),
    ([("user", "u")], [("tool", "", "id_look"), ("tool", "", "id_go"), ("user", "u", None)]),
    ([("user", "u"), ("tool", "a")], [("tool", "a", "id_look"), ("tool", "a", "id_go"), ("user", "u", None)]),
    ([("tool", "a"), ("tool", "b"), ("tool", "c")], [("tool", "a", "id_look"), ("tool", "b", "id_go"),
                                                     ("tool", "c", "id_go")])])
def test_every_call_has_a_result_that_names_it(shown, expected):
    read = written(called("look", "go"), "It", tools=True)
    told = read.answered([{"role": role, "content": text} for role, text in shown])
    assert [(each["role"], each["content"], each.get("tool_call_id")) for each in told] == expected


CALL = {"function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize("given, reason", [
    ([], "object"), ({}, "no choices"), ({"choices": []}, "no choices"), ({"choices": [3]}, "object"),
    (answer(None), "no message"), (answer({"role": "user", "content": "x"}), "role"),
    (answer({"content": 3}), "content"), (answer({"content": ["x"]}), "content"),
    (answer({"content": "x" * (LONGEST + 1)}), "more than 262144 characters"),
    (answer({"content": "x"}, finish_reason=3), "finish_reason"),
    (answer({"content": "x"}) | {"usage": {"completion_tokens": -1}}, "completion_tokens"),
    (answer({"content": "x"}) | {"usage": 3}, "usage"), (answer({"tool_calls": {}}), "holds an object"),
    (answer({"tool_calls": [CALL] * 65}), "holds 65 items"), (answer({"tool_calls": [3]}), "object"),
    (answer({"tool_calls": [{}]}), "no function"), (answer({"tool_calls": [CALL | {"type": "x"}]}), "type"),
    (answer({"tool_calls": [CALL | {"id": 3}]}), "id"),
    (answer({"tool_calls": [{"function": {}}]}), "no name"),
    (answer({"tool_calls": [{"function": {"name": "x", "arguments": {}}}]}), "arguments")])
def test_what_is_no_answer_is_refused(given, reason):
    with pytest.raises(OutsideError, match=reason):
        written(given, "It", tools=True)


def test_what_is_absent_has_its_usual_value():
    read = written(answer({"tool_calls": [{"function": {"name": "x"}}]}), "It", tools=True)
    assert read.calls == (("call_0", ToolCall("x", "{}")),) and read.finish_reason == ""
