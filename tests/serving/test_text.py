"""Text and tool calls that come in pieces are those that would have come at once."""
import json
import random

import pytest

from jaxrl_moe.serving.openai.text import TextStream
from jaxrl_moe.serving.openai.tools import ToolCall, ToolParser
from tests.helpers.tiny_models import make_tokenizer

TEXT = "Ann gave 3 äpfel to 李雷, then 🙂🙃 said: #### 17 and #### 18"


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def cut(items, seed):
    """The items in runs of 1 to 4."""
    generator = random.Random(seed)
    rest = list(items)
    while rest:
        count = generator.randint(1, 4)
        yield rest[:count], not rest[count:]
        rest = rest[count:]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stops, shown",
                         [((), TEXT),
                          (("#### 18", "🙃"), TEXT[:TEXT.index("🙃")]),
                          (("#### 18",), TEXT[:-len("#### 18")]),
                          (("#### 19", "never"), TEXT)])
def test_the_pieces_of_a_stream_join_to_its_text_up_to_the_first_stop_string(hf, stops, shown, seed):
    stream = TextStream(hf.decode, stops)
    pieces = [stream.add(ids, last) for ids, last in cut(hf.encode(TEXT), seed)]
    assert "".join(pieces) == shown
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_are_no_text_come_out_as_when_decoded_at_once(hf, seed):
    ids = random.Random(seed).choices(range(3, len(hf)), k=60)
    stream = TextStream(hf.decode)
    assert "".join(stream.add(part, last) for part, last in cut(ids, seed)) == hf.decode(ids)


CALL = ToolCall("weather", '{"city": "Rom"}')
CALL_TEXT = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rom"}}\n</tool_call>'
CASES = {
    "no call": ("2 < 3, <b> and <tool", ["2 < 3, <b> and <tool"]),
    "one call": (f"Let me see.\n\n{CALL_TEXT}\n", ["Let me see.", CALL]),
    "calls only": (f"{CALL_TEXT}\n{CALL_TEXT}", [CALL, CALL]),
    "no arguments": ('<tool_call>{"name": "now"}</tool_call>', [ToolCall("now", "{}")]),
    "not closed": (CALL_TEXT.removesuffix("</tool_call>"), [CALL]),
    "content after a call": (f"{CALL_TEXT}\nso it is.\n", [CALL, "so it is.\n"]),
    "no JSON": ("A\n<tool_call>{bad</tool_call>", ["A\n<tool_call>{bad</tool_call>"]),
    "no name": ('<tool_call>{"arguments": {}}</tool_call> B', ['<tool_call>{"arguments": {}}</tool_call> B']),
    "no object": ('<tool_call>["weather"]', ['<tool_call>["weather"]']),
    "no number": ('<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
                  ['<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>']),
    "deep": ('<tool_call>' + "[" * 9999, ['<tool_call>' + "[" * 9999]),
}


@pytest.mark.parametrize("case", CASES)
def test_tool_calls_are_told_from_content_however_the_text_is_cut(case):
    text, expected = CASES[case]
    for seed in range(8):
        parser = ToolParser()
        got = []
        for part, last in cut(text, seed):
            got += parser.add("".join(part), last)
        merged = []
        for piece in got:
            if isinstance(piece, str) and merged and isinstance(merged[-1], str):
                merged[-1] += piece
            else:
                merged.append(piece)
        assert merged == expected
    assert all(
        isinstance(json.loads(piece.arguments), dict) for piece in merged if isinstance(piece, ToolCall))
