"""Calls in the forms of Llama 3 and Mistral, and what each chat template writes: told from content, or called
malformed, however the text is cut. Those of Hermes and Qwen are in tests/serving/test_text.py."""
import json
import random

import pytest

from jaxrl_moe.data.chat.tools.families import FAMILIES, HERMES, LLAMA3_JSON, MISTRAL, SIGNS
from jaxrl_moe.data.chat.tools.form import looking, signed, special_marks, spoken, tool_form
from jaxrl_moe.data.chat.tools.parser import ToolParser
from jaxrl_moe.data.tokenizer import Tokenizer, TokenizerError
from jaxrl_moe.types import ToolCall
from tests.helpers import templates
from tests.helpers.templates import byte_level, sentencepiece

GO = ToolCall("go", '{"to": "north"}')
STAY = ToolCall("stay", "{}")
LLAMA_GO = '{"name": "go", "parameters": {"to": "north"}}'
LISTED = '{"name": "go", "arguments": {"to": "north"}, "id": "abcdefghi"}'
THOUGHT = '<think>Perhaps {"name": "go", "parameters": {}}</think>'
IN_STRING = '{"to": "a \\"; {\\"name\\": 1} [TOOL_CALLS] </tool_call> 漢"}'

LLAMA_CASES = {
    "one": (LLAMA_GO, [GO]),
    "with space around": (f"\n {LLAMA_GO}\n", [GO]),
    "after its mark": (f"<|python_tag|>{LLAMA_GO}", [GO]),
    "after words and its mark": (f"I see.\n<|python_tag|>{LLAMA_GO}", ["I see.", GO]),
    "several": (f'{LLAMA_GO}; {{"name": "stay", "parameters": {{}}}};{LLAMA_GO}', [GO, STAY, GO]),
    "arguments": ('{"name": "go", "arguments": {"to": "north"}}', [GO]),
    "its type": ('{"type": "function", "name": "go", "parameters": {"to": "north"}}', [GO]),
    "marks in a string": ('{"name": "go", "parameters": ' + IN_STRING + "}", [ToolCall("go", IN_STRING)]),
    "after thoughts": (f"{THOUGHT}\n{LLAMA_GO}", [THOUGHT, GO]),
    "words": ("I go north.", ["I go north."]),
    "JSON that is the answer": ('{"answer": {"name": "go"}}', ['{"answer": {"name": "go"}}']),
    "JSON after words": (f"So: {LLAMA_GO}", [f"So: {LLAMA_GO}"]),
    "a block of code": (f"```json\n{LLAMA_GO}\n```", [f"```json\n{LLAMA_GO}\n```"]),
    "a brace": ("{", ["{"]),
    "nothing": ("", []),
}
LLAMA_MALFORMED = {
    "cut by the limit": ('{"name": "go", "parameters": {"to"', "no JSON"),
    "followed by words": (f"{LLAMA_GO} and so on", "other text follows"),
    "followed by a mark of separation": (f"{LLAMA_GO};", "no JSON"),
    "the second is none": (f'{LLAMA_GO}; {{"name": 5}}', "names no function"),
    "arguments twice": ('{"name": "go", "parameters": {}, "arguments": {"a": 1}}', "both"),
    "more than a call": ('{"name": "go", "parameters": {}, "to": "north"}', 'the field "to"'),
    "code after the mark": ('<|python_tag|>search.call(query="x")', "no JSON"),
    "no number": ('{"name": "go", "parameters": {"a": NaN}}', "NaN"),
    "half a character": ('{"name": "go", "parameters": {"a": "\\ud800"}}', "surrogate"),
    "deep": ('{"name": "go", "parameters": ' + '{"a":' * 9999, "deep|no JSON"),
}
MISTRAL_CASES = {
    "a list": (f"[TOOL_CALLS] [{LISTED}]", [GO]),
    "two in a list": (f'[TOOL_CALLS] [{LISTED}, {{"name": "stay"}}]', [GO, STAY]),
    "by name": ('[TOOL_CALLS]go[ARGS]{"to": "north"}', [GO]),
    "by name and id": ('[TOOL_CALLS]go[CALL_ID]abcdefghi[ARGS]{"to": "north"}', [GO]),
    "several by name": ('[TOOL_CALLS]go[ARGS]{"to": "north"}[TOOL_CALLS]stay[ARGS]{}', [GO, STAY]),
    "after words": ('I see.\n[TOOL_CALLS] go[ARGS]{"to": "north"}\n', ["I see.", GO]),
    "marks in a string": ("[TOOL_CALLS]go[ARGS]" + IN_STRING, [ToolCall("go", IN_STRING)]),
    "after thoughts": (f"[THINK]{THOUGHT}[TOOL_CALLS]go[ARGS]{{}}[/THINK][TOOL_CALLS]stay[ARGS]{{}}",
                       [f"[THINK]{THOUGHT}[TOOL_CALLS]go[ARGS]{{}}[/THINK]", STAY]),
    "words": ("[1, 2] is a list", ["[1, 2] is a list"]),
}
MISTRAL_MALFORMED = {
    "cut by the limit": ('[TOOL_CALLS] [{"name": "go", "arg', "no JSON"),
    "a name alone": ("[TOOL_CALLS]go", "neither by a list"),
    "no list of calls": ('[TOOL_CALLS] [1]', "an integer"),
    "an empty list": ("[TOOL_CALLS] []", "empty"),
    "the second is none": (f'[TOOL_CALLS] [{LISTED}, {{"name": ""}}]', "names no function"),
    "followed by words": (f'[TOOL_CALLS] [{LISTED}], "to": "south"', "other text follows"),
    "arguments that are a list": ("[TOOL_CALLS]go[ARGS]{]", "no JSON"),
}
CUT = '<tool_call>{"name": "go", "arguments": {"to": "no'
GOOD = [(family, text, expected) for family, cases in ((LLAMA3_JSON, LLAMA_CASES), (MISTRAL, MISTRAL_CASES))
        for text, expected in cases.values()]
BAD = [(family, text, why) for family, cases in ((LLAMA3_JSON, LLAMA_MALFORMED), (MISTRAL, MISTRAL_MALFORMED))
       for text, why in cases.values()]


def parsed(family, text, seed, special=frozenset()):
    """(pieces, neighbouring texts joined; the parser), the text in runs of 1 to 4."""
    generator = random.Random(seed)
    parser = ToolParser(False, family, special)
    pieces = []
    end = 0
    while not end or end < len(text):
        start = end
        end = start + generator.randint(1, 4) if seed else len(text) + 1
        for piece in parser.add(text[start:end], end >= len(text)):
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return pieces, parser


@pytest.mark.parametrize("family, text, expected", GOOD)
def test_calls_of_each_family_are_told_from_content_however_the_text_is_cut(family, text, expected):
    for seed in range(6):
        pieces, parser = parsed(family, text, seed)
        assert pieces == expected and not parser.malformed
        assert len(parser.ids) == sum(isinstance(piece, ToolCall) for piece in pieces)


@pytest.mark.parametrize("family, text, why", BAD)
def test_a_malformed_call_stays_text_and_says_what_is_wrong(family, text, why):
    for seed in range(4):
        pieces, parser = parsed(family, text, seed)
        assert pieces == [text]
        (fault,) = parser.malformed
        assert fault.text == text and any(part in fault.why for part in why.split("|")), fault


@pytest.mark.parametrize("text, faults", [
    ("<tool_call>{bad</tool_call>", ["<tool_call>{bad</tool_call>"]),
    ('A <tool_call>{bad <tool_call>{"name": "stay"}</tool_call>', ["<tool_call>{bad "]),
    (CUT, [CUT]),
    ("Write <tool_call> before it", []), ("`<tool_call>{bad`", []), ("```\n<tool_call>{bad\n```", []),
    ("<think><tool_call>{bad</tool_call></think>", [])])
def test_malformed_calls_of_hermes_are_those_that_were_meant(text, faults):
    for seed in range(4):
        pieces, parser = parsed(HERMES, text, seed)
        assert [fault.text for fault in parser.malformed] == faults
        assert all(fault.why for fault in parser.malformed)


def test_a_mark_that_is_a_token_is_none_where_other_tokens_spell_it():
    special = frozenset({"[TOOL_CALLS]", "[ARGS]"})
    call = f'{SIGNS["[TOOL_CALLS]"]}go{SIGNS["[ARGS]"]}{{"to": "north"}}'
    for seed in range(4):
        assert parsed(MISTRAL, f"so {call}", seed, special)[0] == ["so", GO]
        spelt = '[TOOL_CALLS]go[ARGS]{"to": "north"}'
        assert parsed(MISTRAL, spelt, seed, special)[0] == [spelt]
        assert parsed(MISTRAL, f'so{SIGNS["[ARGS]"]} it is', seed, special)[0] == ["so it is"]
        bad, parser = parsed(MISTRAL, f'{SIGNS["[TOOL_CALLS]"]}go', seed, special)
        assert bad == ["go"] and parser.malformed[0].text == "[TOOL_CALLS]go"


def test_the_ids_that_a_model_gives_its_calls_are_kept():
    _, parser = parsed(MISTRAL, f'[TOOL_CALLS] [{LISTED}, {{"name": "stay"}}]', 0)
    assert parser.ids == ["abcdefghi", ""]
    _, parser = parsed(MISTRAL, "[TOOL_CALLS]go[CALL_ID]abcdefghi[ARGS]{}", 0)
    assert parser.ids == ["abcdefghi"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_text_breaks_a_parser_and_none_of_it_is_lost(family):
    words = [*family.marks, "<think>", "</think>", "```", "{", "}", "[", "]", '"', ";", "\\", "\n", " ", "go",
             '"name"', ":", '"arguments"', '"parameters"', '{"name": "go"}', "漢", "1e999", "NaN", LLAMA_GO]
    generator = random.Random(0)
    for _ in range(400):
        text = "".join(generator.choices(words, k=generator.randint(1, 14)))
        whole, parser = parsed(family, text, 0)
        for seed in (1, 2):
            again, other = parsed(family, text, seed)
            assert again == whole and other.malformed == parser.malformed and other.ids == parser.ids
        calls = [piece for piece in whole if isinstance(piece, ToolCall)]
        assert all(isinstance(json.loads(call.arguments), dict) for call in calls)
        if not calls:
            assert "".join(whole) == text


FORMS = {"QWEN25": "hermes", "HERMES_TOOLS": "hermes",
         "QWEN3": "hermes", "QWEN3_TOOLS": "hermes", "LLAMA3": "llama3_json",
         "LLAMA3_TOOLS": "llama3_json", "MISTRAL_TOOLS": "mistral", "MISTRAL_NAMED": "mistral"}
ALONE = ("LLAMA3", "LLAMA3_TOOLS")


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
@pytest.mark.parametrize("name", FORMS)
def test_the_calls_that_a_template_writes_are_read_back(name, make):
    template = Tokenizer(make(getattr(templates, name)), name).template
    form = tool_form(template)
    assert form.family.name == FORMS[name] and form.several == (name not in ALONE)
    generator = random.Random(0)
    asked = {"role": "user", "content": "go"}
    for _ in range(20):
        text = "".join(generator.choices('a "\\{}[];\n<>漢é', k=8))
        values = [text, generator.random(), None, [1, {"b": []}]]
        calls = [{**looking(number), "function": {"name": f"f{number}", "arguments": {
            "at": value, 'a "b"': True}}} for number, value in enumerate(generator.sample(values, 2))]
        calls = calls[:generator.randint(1, 1 + form.several)]
        whole = template.render([asked, {"role": "assistant", "content": "", "tool_calls": calls}],
                                generation_prompt=False)
        before = template.render([asked])
        assert whole.startswith(before)
        written = signed(whole[len(before):], template)
        pieces, _ = parsed(form.family, written, 0, special_marks(form.family, template))
        assert [piece for piece in pieces if isinstance(piece, ToolCall)] == list(map(spoken, calls))
        assert not "".join(piece for piece in pieces if isinstance(piece, str)).strip("\n</think>")


def test_a_family_can_be_chosen_and_an_unknown_one_is_refused():
    template = Tokenizer(byte_level(templates.QWEN25), "here").template
    assert tool_form(template, "mistral").family is MISTRAL
    with pytest.raises(TokenizerError, match="'qwen' is no family.*hermes, llama3_json, mistral"):
        tool_form(template, "qwen")
    plain = Tokenizer(byte_level(templates.GEMMA), "here").template
    assert tool_form(plain).family is None and tool_form(plain).for_clients is HERMES
