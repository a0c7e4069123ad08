"""Commands in answers of AgentGym's form."""
import re

import pytest

from jaxrl_moe.envs.text.answers import BadAction, action_of


@pytest.mark.parametrize("text, action", [
    ("Thought:\nI need wood.\n\nAction:\nget 2 oak log", "get 2 oak log"),
    ("Thought: wood\nAction: get 2 oak log\nThat is all.", "get 2 oak log"),
    ("Action: \n\n  craft 4  stick using 2 plank,1 log. ", "craft 4 stick using 2 plank,1 log"),
    ("**Action:**\n`inventory`", "inventory"),
    ("get 1 coal", "get 1 coal"),
    ("get 1\n\tcoal!", "get 1 coal"),
    ("<think>Action: get 1 coal</think>\nAction: get 2 coal", "get 2 coal"),
    ("<think>Action: get 1 coal", ""),
    ("Inaction: no. Action: go to red ball 1", "go to red ball 1"),
    ("action: inventory", "action inventory"),
    ("get -3 co_al \x00\ud800é", "get 3 coal"),
    ("Action:", ""), ("", ""), ("\N{FULLWIDTH DIGIT TWO}", "")])
def test_the_command_is_what_stands_after_the_only_mark(text, action):
    assert action_of(text) == action


@pytest.mark.parametrize(
    "text", ["Action: get 1 coal\nAction: get 2 coal", "Action:Action:", "Action: " * 1000],
    ids=["two", "empty", "many"])
def test_several_marks_are_refused_with_words_for_the_policy(text):
    with pytest.raises(BadAction, match="Only one \"Action:\" is allowed"):
        action_of(text)


def test_what_is_left_of_any_text_is_letters_digits_commas_and_single_spaces():
    text = "".join(map(chr, range(1, 0x3000)))
    assert re.fullmatch(r"([A-Za-z0-9,]+ )*[A-Za-z0-9,]*", action_of(text))
    assert len(action_of("get 1 coal " * 100_000)) == 11 * 100_000 - 1
