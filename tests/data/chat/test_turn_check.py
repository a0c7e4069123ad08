"""What is said of a chat template before a run."""
import pytest

from jaxrl_moe.data.chat.turn_check import check_template
from jaxrl_moe.data.tokenizer import Tokenizer, TokenizerError
from tests.helpers import templates
from tests.helpers.templates import PROMPT, byte_level, sentencepiece

LOOK = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {
    "type": "object", "properties": {"at": {"type": "string"}}}}}
NO_TOOL_ROLE = templates.QWEN25.replace(
    "{% for message in messages %}", "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ raise_exception('no such role') }}{% endif %}")
UNSTABLE = templates.QWEN25.replace("<|im_end|>\n{% endfor %}" + PROMPT,
                                    "<|im_end|>\n{% endfor %}{{ range(1000) | random }}" + PROMPT)
LAST_LOST = templates.QWEN25.replace("{{ message.content }}", "{{ message.content if loop.length < 4 }}")
WHOLE = [("QWEN25", "<|im_end|>", True), ("HERMES_TOOLS", "<|im_end|>", True),
         ("LLAMA3_TOOLS", "<|eot|>", True), ("MISTRAL_NAMED", "</s>", True),
         ("GEMMA", "<end_of_turn>", False), ("PHI3", "<|endoftext|>", False), ("MISTRAL", "</s>", False),
         ("NUMBERED", "<|im_end|>", False)]


def tokenizer(template, eos="<|im_end|>", make=byte_level):
    return Tokenizer(make(getattr(templates, template, template), eos), "here")


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize("history", ["append", "branch"])
@pytest.mark.parametrize("name, eos, tools", WHOLE)
def test_templates_that_rewrite_nothing_pass(name, eos, tools, history, make):
    assert check_template(tokenizer(name, eos, make), history=history) == ()
    if tools:
        assert check_template(tokenizer(name, eos, make), tools=[LOOK], history=history) == ()


@pytest.mark.parametrize("history", ["append", "branch"])
def test_conversations_in_which_a_template_rewrites_earlier_turns_are_named(history):
    rewritten = check_template(tokenizer("QWEN3_TOOLS"), tools=[LOOK], history=history)
    assert "reasoning" in rewritten and "a call of a tool and its result" in rewritten
    assert check_template(tokenizer("MISTRAL_TOOLS", "</s>"), history=history) == ()
    tools = check_template(tokenizer("MISTRAL_TOOLS", "</s>"), tools=[LOOK], history=history)
    assert "turns of user and assistant" in tools  # the tools move to the last question
    assert "calls in turns that follow each other" not in tools


@pytest.mark.parametrize("template, eos, options, told", [
    ("PLAIN", "</s>", {}, "turns of user and assistant.*ends an assistant's message with no control token"),
    (NO_TOOL_ROLE, "<|im_end|>", {"tools": [LOOK]}, "a call of a tool and its result, .*no such role"),
    ("GEMMA", "<end_of_turn>", {"tools": [LOOK]}, "writes calls of tools in no form that is known here"),
    ("LLAMA3", "<|eot|>", {"tools": [LOOK]}, "reads no variable 'tools'"),
    ("QWEN25", "<|im_end|>", {"tools": [LOOK], "family": "mistral"}, "a call of a tool.*family"),
    ("QWEN25", "<|im_end|>", {"tools": [LOOK], "family": "qwen"}, "'qwen' is no family"),
    ("QWEN25", "<|im_end|>", {"variables": {"mood": 1}}, "reads no variable 'mood'"),
    ("MISTRAL", "</s>", {"several": True}, "several messages of the user in a row, .*roles must alternate"),
    ("DATED", "<|end|>", {"history": "branch"}, "differently from one time to the next.*date_string"),
    (UNSTABLE, "<|im_end|>", {}, "differently from one time to the next"),
    (LAST_LOST, "<|im_end|>", {}, "turns of user and assistant.*leaves out what the assistant said")])
def test_a_template_that_cannot_do_it_is_refused_and_the_conversation_is_named(template, eos, options, told):
    with pytest.raises(TokenizerError, match=told) as refusal:
        check_template(tokenizer(template, eos), **options)
    assert "\n" not in str(refusal.value)


def test_a_date_is_no_hindrance_where_the_context_keeps_it_or_it_is_given():
    assert check_template(tokenizer("DATED", "<|end|>")) == ()
    assert check_template(tokenizer("DATED", "<|end|>"), history="branch",
                          variables={"date_string": "today"}) == ()


def test_several_messages_in_a_row_pass_where_the_template_takes_them():
    assert check_template(tokenizer("QWEN25"), several=True) == ()
