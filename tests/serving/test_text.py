"""Text and tool calls that come in pieces are those that would have come at once."""
import json
import random

import numpy as np
import pytest

from jaxrl_moe.data.chat.tools.parser import ToolParser
from jaxrl_moe.data.tokenizer import Tokenizer
from jaxrl_moe.engine.sequences import Chunk
from jaxrl_moe.serving.openai.pieces import Offsets, Pieces
from jaxrl_moe.serving.openai.reading import Readers
from jaxrl_moe.serving.openai.text import TextStream
from jaxrl_moe.types import ToolCall
from tests.helpers import templates
from tests.helpers.tiny_models import make_tokenizer
from tests.helpers.tiny_tokenizers import byte_fallback, word_piece

TEXT = "Ann gave 3 äpfel to 李雷, then 🙂🙃 said: #### 17 and #### 18"


KINDS = ("byte level", "llama", "gemma")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return {"byte level": make_tokenizer(tmp_path_factory.mktemp("tokenizer")), "llama": byte_fallback(),
            "gemma": byte_fallback(strip=False), "words": word_piece()}


@pytest.fixture(scope="module", params=KINDS)
def hf(kinds, request):
    return kinds[request.param]


def encode(hf, text):
    return hf.encode(text, add_special_tokens=False)


def merged(pieces):
    """Neighbouring texts joined."""
    joined = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


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
    stream = TextStream(Pieces(hf), stops)
    pieces = [stream.add(ids, last) for ids, last in cut(encode(hf, TEXT), seed)]
    assert "".join(pieces) == shown
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_are_no_text_come_out_as_when_decoded_at_once(kinds, seed):
    hf = kinds["byte level"]
    ids = random.Random(seed).choices(range(3, len(hf)), k=60)
    stream = TextStream(Pieces(hf))
    assert "".join(stream.add(part, last) for part, last in cut(ids, seed)) == hf.decode(ids)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_that_are_no_text_come_out_alike_however_they_are_cut(hf, seed):
    ids = random.Random(seed).choices(range(len(hf)), k=60)
    pieces = Pieces(hf)
    whole = TextStream(pieces, ["ab", "q"]).add(ids, True)
    for other in range(4):
        stream = TextStream(pieces, ["ab", "q"])
        assert "".join(stream.add(part, last) for part, last in cut(ids, other)) == whole


LETTERS = "ab \n你好吗。😀é▁äH"


@pytest.mark.parametrize("kind", [*KINDS, "words"])
def test_the_bytes_of_tokens_are_those_of_the_text_that_they_are_decoded_to(kinds, kind):
    hf = kinds[kind]
    generator = random.Random(0)
    pieces = Pieces(hf)
    for _ in range(100):
        ids = encode(hf, "".join(generator.choices(LETTERS, k=12)))
        for _ in range(generator.choice([0, 2])):
            ids.insert(generator.randrange(len(ids) + 1), hf.eos_token_id)
        assert TextStream(pieces).add(ids, True) == hf.decode(ids, skip_special_tokens=True)


def test_what_may_become_a_stop_string_is_held_back_and_then_not_shown(hf):
    for stops, text, shown in [([" Human:"], "so Human: x", "so"), (["。"], "你好吗。", "你好吗"),
                               (["abc", "b"], "xabc", "xa"), (["\n\n"], "a\n\nb", "a"), (["zz"], "az", "az")]:
        stream = TextStream(Pieces(hf), stops)
        ids = encode(hf, text)
        seen = ""
        for at, token in enumerate(ids):
            seen += stream.add([token], at == len(ids) - 1)
            assert shown.startswith(seen)
        assert seen == shown


def test_offsets_count_the_characters_before_that_to_which_a_token_belongs(hf):
    generator = random.Random(0)
    pieces = Pieces(hf)
    for text in ["a😀bc", *("".join(generator.choices(LETTERS, k=12)) for _ in range(60))]:
        ids = encode(hf, text)
        ids.insert(generator.randrange(len(ids)), hf.eos_token_id)
        offsets = Offsets(pieces)
        tokens = [token for part, _ in cut(ids, len(text)) for token in offsets.add(part)]
        for at, token in enumerate(tokens):
            before = b"".join(each.data for each, i in zip(tokens[:at], ids) if i != hf.eos_token_id)
            assert token.offset == len(before.decode("utf-8", "ignore"))
        assert [token.text for token, i in zip(tokens, ids) if i == hf.eos_token_id] == [hf.eos_token]
        data = b"".join(token.data for token, i in zip(tokens, ids) if i != hf.eos_token_id)
        assert data.decode() == hf.decode(ids, skip_special_tokens=True)


def test_offsets_after_a_character_of_several_tokens(kinds):
    for kind, offsets in {"byte level": [0, 1, 1, 1, 1, 2, 3], "gemma": [0, 1, 1, 1, 1, 2, 3]}.items():
        tokens = Offsets(Pieces(kinds[kind])).add(encode(kinds[kind], "a😀bc"))
        assert [token.offset for token in tokens] == offsets


@pytest.mark.parametrize("data, offsets", [(b"\xf0\x9fa", [0, 0, 1]), (b"\xe4\xe4\xbd\xa0b", [0, 1, 1, 1, 2]),
                                           (b"\xff\xffb", [0, 1, 2]), ("\ufffdb".encode(), [0, 0, 0, 1])])
def test_offsets_after_bytes_that_are_no_character(kinds, data, offsets):
    hf = kinds["gemma"]
    ids = [hf.convert_tokens_to_ids(f"<0x{byte:02X}>") for byte in data]
    assert [token.offset for token in Offsets(Pieces(hf)).add(ids)] == offsets


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


NAMED = ToolCall("A", '{"a": 1}')
A_CALL = '<tool_call>{"name": "A", "arguments": {"a": 1}}</tool_call>'


def written(body):
    return f"<tool_call>{body}</tool_call>"


CALLS = {
    "Llama's spelling": '{"name": "A", "parameters": {"a": 1}}',
    "its type": '{"type": "function", "name": "A", "parameters": {"a": 1}}',
    "with an id": '{"id": "c1", "name": "A", "arguments": {"a": 1}}',
    "arguments as text": r'{"name": "A", "arguments": "{\"a\": 1}"}'}
NO_CALLS = {
    "other arguments": '{"name": "A", "args": {"a": 1}}',
    "arguments twice": '{"name": "A", "arguments": {"a": 1}, "parameters": {"a": 2}}',
    "a key twice": '{"name": "A", "name": "B", "arguments": {"a": 1}}',
    "a key of arguments twice": '{"name": "A", "arguments": {"a": 1, "a": 2}}',
    "arguments as other text": '{"name": "A", "arguments": "a = 1"}',
    "arguments as a list": '{"name": "A", "parameters": [1]}',
    "an empty name": '{"name": "", "arguments": {}}',
    "a name of another kind": '{"name": 5}',
    "two in one": '{"name": "A"}{"name": "B"}',
    "a number beyond floats": '{"name": "A", "arguments": {"a": 1e999}}',
    "a long number": '{"name": "A", "arguments": {"a": ' + "1" * 5000 + "}}"}
CASES |= {name: (written(body), [NAMED]) for name, body in CALLS.items()}
CASES |= {name: (written(body), [written(body)]) for name, body in NO_CALLS.items()}
TALK = {
    "thoughts": f"<think>\nPerhaps {A_CALL}?\n</think>\n\nNo.",
    "thoughts cut short": f"<think>\nPerhaps {A_CALL}",
    "thoughts within a line": f"Well. <think>Perhaps {A_CALL}?</think> No.",
    "a block of code": f"So:\n```json\n{A_CALL}\n```\nIs how.",
    "a block of code cut short": f"```\n{A_CALL}",
    "quotation marks": f'Write "{A_CALL}" for it.',
    "backquotes": f"Write `{A_CALL}` for it.",
    "cut by the limit": '<tool_call>{"name": "A", "arguments": {"a": 1',
    "an unclosed string": '<tool_call>{"name": "A</tool_call> and so on'}
CASES |= {name: (text, [text]) for name, text in TALK.items()}
CASES |= {
    "no arguments at all": (written('{"name": "A", "arguments": null}'), [ToolCall("A", "{}")]),
    "after thoughts": (f"<think>{A_CALL}</think>\n{A_CALL}", [f"<think>{A_CALL}</think>", NAMED]),
    "after a word of thoughts": (f"I <think> so. {A_CALL}", ["I <think> so.", NAMED]),
    "after quoted thoughts": (f"`<think>` and `</think>`\n{A_CALL}", ["`<think>` and `</think>`", NAMED]),
    "after an end of thoughts": (f"so</think>\n{A_CALL}", ["so</think>", NAMED]),
    "after a block of code": (f"```\nx\n```\n{A_CALL}", ["```\nx\n```", NAMED]),
    "after code in a line": (f"Use ```x``` so: {A_CALL}", ["Use ```x``` so:", NAMED]),
    "after a broken one": (f"<tool_call>{{bad {A_CALL}", ["<tool_call>{bad", NAMED]),
    "the tag in a string": (written(r'{"name": "A", "arguments": {"a": "</tool_call> \"</tool_call>"}}'),
                            [ToolCall("A", '{"a": "</tool_call> \\"</tool_call>"}')])}


@pytest.mark.parametrize("case", CASES)
def test_tool_calls_are_told_from_content_however_the_text_is_cut(case):
    text, expected = CASES[case]
    for seed in range(8):
        parser = ToolParser()
        got = []
        for part, last in cut(text, seed):
            got += parser.add("".join(part), last)
        assert merged(got) == expected
    assert all(
        isinstance(json.loads(piece.arguments), dict) for piece in got if isinstance(piece, ToolCall))


def test_thoughts_that_the_prompt_has_opened_hold_no_calls():
    text = f"Perhaps {A_CALL}?\n</think>\n{A_CALL}"
    for seed in range(8):
        parser = ToolParser(thinking=True)
        got = [piece for part, last in cut(text, seed) for piece in parser.add("".join(part), last)]
        assert merged(got) == [f"Perhaps {A_CALL}?\n</think>", NAMED]
    assert merged(ToolParser(thinking=True).add(A_CALL, True)) == [A_CALL]


def chunks(ids, seed):
    for part, last in cut(ids, seed):
        yield Chunk(0, np.array(part), np.zeros(len(part)), np.zeros(len(part), int), "stop" if last else "")


@pytest.mark.parametrize("make", [templates.byte_level, templates.sentencepiece])
@pytest.mark.parametrize("family, eos, text, marks", [
    ("QWEN25", "<|im_end|>", CALL_TEXT, ()),
    ("LLAMA3_TOOLS", "<|eot|>", '{"name": "weather", "parameters": {"city": "Rom"}}', ()),
    ("LLAMA3_TOOLS", "<|eot|>", '<|python_tag|>{"name": "weather", "parameters": {"city": "Rom"}}',
     ("<|python_tag|>",)),
    ("MISTRAL_TOOLS", "</s>", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rom"}}]',
     ("[TOOL_CALLS]",)),
    ("MISTRAL_NAMED", "</s>", '[TOOL_CALLS]weather[ARGS]{"city": "Rom"}', ("[TOOL_CALLS]", "[ARGS]"))])
def test_samples_are_read_by_the_family_that_the_chat_template_writes(family, eos, text, marks, make):
    tokenizer = Tokenizer(make(getattr(templates, family), eos), family)
    ids = [*tokenizer.encode(text).tolist(), tokenizer.eos_ids[0]]
    assert {tokenizer.hf.convert_tokens_to_ids(mark) for mark in marks} <= set(ids)
    for seed in range(4):
        sample = Readers(tokenizer).stream(["]!", "OL_", "y_t"], tokenizer.encode("so").tolist())
        pieces = [sample.piece([chunk]) for chunk in chunks(ids, seed)]
        assert [call for piece in pieces for call in piece.calls] == [CALL]
        assert not "".join(piece.content for piece in pieces)
        assert pieces[-1].finish_reason == "tool_calls"
        plain = Readers(tokenizer).stream((), None)
        shown = "".join(plain.piece([chunk]).content for chunk in chunks(ids, seed))
        assert shown == tokenizer.decode(ids)
