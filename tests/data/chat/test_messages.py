"""Messages of data rows in the spellings of others: each field reaches the text, or the row is refused by
file and row."""
import json

import numpy as np
import pytest

from jaxrl_moe.config import DataSection, SftSection
from jaxrl_moe.data.prompts import load_prompts
from jaxrl_moe.data.rows import DataError, Row, read_rows
from jaxrl_moe.data.sft import load_conversations, row_messages
from jaxrl_moe.data.tokenizer import Tokenizer, TokenizerError
from jaxrl_moe.types import UserError
from tests.helpers import templates

USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
TALK = [USER, FOUR, {"role": "user", "content": "and 2?"}, {"role": "assistant", "content": "6"}]
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
AS_TEXT = CALL | {"function": {"name": "add", "arguments": '{"a": 1}'}}
CALLED = '\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'


@pytest.fixture(scope="module")
def tokenizers():
    return {name: Tokenizer(templates.byte_level(getattr(templates, name)), name)
            for name in ("QWEN25", "QWEN3")}


@pytest.fixture
def tokenizer(tokenizers):
    return tokenizers["QWEN25"]


def write(path, rows):
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def trained(tmp_path, tokenizer, *rows, name="d.jsonl"):
    """(the whole text, the trained spans) of each row."""
    section = SftSection(path=write(tmp_path / name, rows))
    found = []
    for ids, mask in load_conversations(section, tokenizer)[0]:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
        texts = [tokenizer.decode(ids[a:b], skip_special_tokens=False)
                 for a, b in zip(edges[::2], edges[1::2])]
        found.append((tokenizer.decode(ids, skip_special_tokens=False), texts))
    return found


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [TOOL["function"]]])
def test_tools_of_a_row_reach_the_text_of_sft_and_of_prompts(tmp_path, tokenizer, tools):
    ((text, _),) = trained(tmp_path, tokenizer, {"messages": TALK, "tools": tools})
    assert text == tokenizer.hf.apply_chat_template(TALK, tools=[TOOL], tokenize=False)
    path = write(tmp_path / "p.jsonl", [{"prompt": [USER], "tools": tools}])
    prompts, _ = load_prompts(DataSection(path=path), tokenizer)
    assert prompts[0].ids.tolist() == tokenizer.hf.apply_chat_template(
        [USER], tools=[TOOL], add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("call", [CALL, AS_TEXT, CALL["function"], CALL | {"index": 0}])
@pytest.mark.parametrize("content", [None, ""])
def test_calls_reach_the_text_once_however_they_are_written(tmp_path, tokenizer, call, content):
    talk = [USER, {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "add", "content": [{"type": "text", "text": "3"}]},
            FOUR]
    ((text, spans),) = trained(tmp_path, tokenizer, {"messages": talk})
    assert spans == [CALLED, "4<|im_end|>"] and "tool\n3<|im_end|>" in text and "None" not in text


@pytest.mark.parametrize("flag", [{"loss": False}, {"weight": 0}, {"weight": 0.0}, {"train": False},
                                  {"training": False}, {"weight": 0, "loss": False, "train": None}])
def test_a_message_can_ask_for_no_loss_in_the_spellings_of_others(tmp_path, tokenizer, flag):
    talk = [USER | {"weight": 0}, FOUR | flag, *TALK[2:3], TALK[3] | {"weight": 1, "train": True}]
    assert trained(tmp_path, tokenizer, {"messages": talk})[0][1] == ["6<|im_end|>"]


SHAREGPT = [{"from": "system", "value": "Count."}, {"from": "human", "value": "2 + 2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "3"}, {"from": "gpt", "value": "4"}]


@pytest.mark.parametrize("row, expected", [
    ({"conversations": SHAREGPT}, [CALLED, "4<|im_end|>"]),
    ({"messages": SHAREGPT}, [CALLED, "4<|im_end|>"]),
    ({"conversations": json.dumps(SHAREGPT)}, [CALLED, "4<|im_end|>"]),
    ({"conversations": SHAREGPT[1:], "system": "Count."}, [CALLED, "4<|im_end|>"]),
    ({"conversations": [*SHAREGPT[:4], SHAREGPT[4] | {"weight": 0}]}, [CALLED]),
    ({"conversations": TALK}, ["4<|im_end|>", "6<|im_end|>"]),
    ({"messages": json.dumps(TALK)}, ["4<|im_end|>", "6<|im_end|>"]),
    ({"prompt": [USER], "completion": [FOUR]}, ["4<|im_end|>"]),
    ({"prompt": TALK[:3], "completion": TALK[3:]}, ["6<|im_end|>"]),
    ({"prompt": "2 + 2?", "completion": "4", "answer": None}, ["4<|im_end|>"]),
    ({"messages": [USER | {"content": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}]},
                   FOUR | {"content": [{"type": "text", "text": "4"}]}]}, ["4<|im_end|>"])])
def test_rows_of_other_projects_are_read(tmp_path, tokenizer, row, expected):
    ((text, spans),) = trained(tmp_path, tokenizer, row)
    assert spans == expected and "user\n2 + 2?<|im_end|>" in text
    assert ("system\nCount.<|im_end|>" in text) == ("Count." in json.dumps(row))


def row(*messages, **columns):
    return {"messages": list(messages), **columns}


@pytest.mark.parametrize("values, reason", [
    (row(USER | {"name": "Ann"}, FOUR), "leaves out `name` of message 0"),
    (row(USER, FOUR | {"refusal": "no"}), "leaves out `refusal` of message 1"),
    (row(USER, FOUR | {"reasoning_content": "two and two"}), "leaves out `reasoning_content`"),
    (row(USER, FOUR | {"thinking": "two and two"}), "leaves out `thinking`|`reasoning_content`"),
    (row(USER, FOUR | {"audio": {"id": "a1"}}), "leaves out `audio`"),
    (row(USER, FOUR | {"images": ["a.png"]}), "leaves out `images`"),
    (row(USER, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}),
     "leaves out `function_call`"),
    (row(USER, FOUR | {"score": 3}), "leaves out `score`"),
    (row(USER, {"role": "tool", "name": "mul", "content": "3"}, FOUR), "leaves out `name` of message 1"),
    (row(USER | {"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, FOUR),
     "content.0.*image_url"),
    (row(USER | {"content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]}, FOUR),
     "cache_control"),
    (row(USER | {"content": 3}, FOUR), "`content` is an integer"),
    (row({"role": "usr", "content": "x"}, FOUR), "role 'usr'.*Did you mean 'user'"),
    (row({"role": "human", "content": "x"}, FOUR), "role 'human'"),
    (row(USER, FOUR | {"weight": 0.5}), "`weight` is 0.5, and must be 0 or 1"),
    (row(USER, FOUR | {"weight": True}), "`weight` is true"),
    (row(USER, FOUR | {"loss": "false"}), '`loss` is "false", and must be true or false'),
    (row(USER, FOUR | {"train": 0}), "`train` is 0"),
    (row(USER, FOUR | {"train": True, "weight": 0}), "asks for loss and for none"),
    (row(USER, FOUR | {"train_detail": [{"begin_offset": 0}]}), "train_detail"),
    (row(USER | {"loss": True}, FOUR), "asks for loss; only assistant"),
    (row(USER, {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "[1]"}}]}),
     "arguments must be a JSON object"),
    (row(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": NaN}'}}]}),
     "NaN is no JSON number"),
    (row(USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}), "no name"),
    (row(USER, {"role": "assistant", "tool_calls": {"name": "f"}}), "`tool_calls` is an object"),
    (row(USER, FOUR, images=["a.png"]), "column `images`"),
    (row(USER, FOUR, functions=[TOOL["function"]]), "column `functions`.*write `tools`"),
    (row(USER, FOUR, tools=[{"type": "retrieval"}]), "tool 0 of `tools`"),
    (row(USER, FOUR, tools="add"), "`tools`, a text, is no JSON"),
    (row(USER, FOUR, tools={"name": "add"}), "`tools` is an object"),
    (row(USER, FOUR, chat_template_kwargs={"mood": "calm"}), "reads no variable 'mood'"),
    (row(USER, FOUR, chat_template_kwargs={"content": "calm"}), "reads no variable 'content'"),
    (row(USER, FOUR, enable_thinking="no"), "true or false is needed"),
    ({"conversations": [{"from": ["human"], "value": "x"}]}, "turn 0 of `conversations` needs `from`"),
    (row(USER, FOUR, enable_thinking=False), "reads no variable 'enable_thinking'"),
    (row({"role": "system", "content": "a"}, USER, FOUR, system="b"), "column `system`"),
    ({"messages": "two"}, "`messages`, a text, is no JSON"),
    ({"messages": "{}"}, "`messages` is an object"),
    ({"prompt": [USER], "chosen": [FOUR], "rejected": [FOUR]}, "pairs of preferences"),
    ({"prompt": [USER, FOUR], "completion": [FOUR]}, "a second one"),
    ({"prompt": "2?", "answer": 2}, "`answer` is an integer; a text"),
    ({"question": 2, "answer": "2"}, "`question` is an integer"),
    ({"prompt": json.dumps([USER]), "answer": "4"}, "spells a list of messages"),
    ({"conversations": [{"from": "human", "value": "x", "images": ["y"]}]}, "turn 0 .*'images'"),
    ({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "f()"}]},
     "turn 1.*no JSON.*name, arguments"),
    (row(USER, FOUR | {"content": "\ud800"}), "half of a surrogate pair")])
def test_what_would_not_reach_the_model_is_refused_by_file_and_row(tmp_path, tokenizer, values, reason):
    with pytest.raises(DataError, match=rf"d.jsonl, row 2\b.*({reason})"):
        trained(tmp_path, tokenizer, row(*TALK), values)


def test_a_role_that_the_template_leaves_out_is_refused_though_its_words_stand_elsewhere(tmp_path,
                                                                                        tokenizers):
    talk = [{"role": "developer", "content": "4"}, *TALK]
    assert "developer\n4" in trained(tmp_path, tokenizers["QWEN25"], row(*talk))[0][0]
    for load in (lambda: trained(tmp_path, tokenizers["QWEN3"], row(*TALK), row(*talk)),
                 lambda: load_prompts(DataSection(path=write(tmp_path / "d.jsonl", [
                     {"prompt": [USER]}, {"prompt": talk[:2]}])), tokenizers["QWEN3"])):
        with pytest.raises(DataError, match="d.jsonl, row 2: .*`content` of message 0 .role 'developer'"):
            load()


def test_a_chat_of_many_turns_with_reasoning_is_rendered_a_few_times_only(tokenizers, monkeypatch):
    template = tokenizers["QWEN3"].template
    rendered = []
    render = template.render
    monkeypatch.setattr(template, "render", lambda messages, **more: (
        rendered.append(len(messages)), render(messages, **more))[1])
    talk = [USER, FOUR | {"reasoning_content": "two and two"}] * 50
    template.check([*talk, USER])
    assert len(rendered) < 6
    with pytest.raises(TokenizerError, match="leaves out `content` of message 101 .role 'developer'"):
        template.check([*talk, USER, {"role": "developer", "content": "4"}])


def test_reasoning_that_a_template_drops_from_earlier_turns_is_no_loss_in_a_prompt(tmp_path, tokenizers):
    talk = [USER, FOUR | {"reasoning_content": "two and two"}, TALK[2]]
    path = write(tmp_path / "p.jsonl", [{"prompt": talk}])
    prompts, _ = load_prompts(DataSection(path=path), tokenizers["QWEN3"])
    assert "two and two" not in tokenizers["QWEN3"].decode(prompts[0].ids)


@pytest.mark.parametrize("columns", [{"chat_template_kwargs": {"enable_thinking": False}},
                                     {"chat_template_kwargs": '{"enable_thinking": false}'},
                                     {"enable_thinking": False}])
def test_variables_of_the_template_reach_it(tmp_path, tokenizers, columns):
    path = write(tmp_path / "p.jsonl", [{"prompt": [USER], **columns}])
    prompts, _ = load_prompts(DataSection(path=path), tokenizers["QWEN3"])
    text = tokenizers["QWEN3"].decode(prompts[0].ids, skip_special_tokens=False)
    assert text.endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("family, opened", [("QWEN25", ""), ("QWEN3", "<think>\n\n</think>\n\n")])
def test_a_prompt_that_ends_in_the_assistants_words_is_continued(tmp_path, tokenizers, family, opened):
    words = [USER, {"role": "assistant", "content": "The answer is "}]
    path = write(tmp_path / "p.jsonl", [{"prompt": words, "answer": "4"}])
    (prompt,), _ = load_prompts(DataSection(path=path), tokenizers[family])
    text = tokenizers[family].decode(prompt.ids, skip_special_tokens=False)
    asked = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert text == asked + opened + "The answer is "
    assert text == tokenizers[family].hf.apply_chat_template(words, continue_final_message=True,
                                                             tokenize=False)


def test_a_prompt_that_ends_in_a_call_cannot_be_continued(tmp_path, tokenizer):
    path = write(tmp_path / "p.jsonl", [{"prompt": [USER, {"role": "assistant", "tool_calls": [CALL]}]}])
    with pytest.raises(DataError, match="p.jsonl, row 1: .*can be continued"):
        load_prompts(DataSection(path=path), tokenizer)


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("key, value", [("strict", True), ("cache_control", {"type": "ephemeral"}),
                                        ("return", {"type": "integer"}), ("note", "read this")])
def test_every_key_of_a_tool_reaches_the_text_or_is_refused(tmp_path, tokenizer, framed, key, value):
    tool = TOOL | {key: value} if framed else TOOL | {"function": TOOL["function"] | {key: value}}
    values = row(USER, FOUR, tools=[tool])
    assert json.dumps({key: value})[1:-1] in trained(tmp_path, tokenizer, values)[0][0]
    named = tokenizer.hf.chat_template.replace(
        "tool | tojson", '{"type": "function", "function": {"name": tool.function.name, "description": '
        'tool.function.description, "parameters": tool.function.parameters}} | tojson')
    assert named != tokenizer.hf.chat_template
    other = Tokenizer(templates.byte_level(named), "named")
    with pytest.raises(UserError, match=f"leaves out `{key}` of a tool"):
        trained(tmp_path, other, values)
    assert '"add"' in trained(tmp_path, other, row(USER, FOUR, tools=[TOOL]))[0][0]


def test_keys_that_parquet_fills_with_null_are_not_trained(tmp_path, tokenizer):
    other = {"type": "function", "function": {"name": "mul", "arguments": {"b": 2}}}
    answer = {"role": "tool", "content": "3", "tool_call_id": "c"}
    strict = {"type": "function", "function": {"name": "mul", "strict": False}}
    rows = [row(USER, {"role": "assistant", "content": None, "tool_calls": [call]}, answer,
                FOUR | {"weight": 0}, tools=[tool]) for call, tool in ((CALL, TOOL), (other, strict))]
    assert trained(tmp_path, tokenizer, *rows, name="d.parquet") == trained(tmp_path, tokenizer, *rows)
    agent = [{"conversations": [{"from": "human", "value": "a", "loss": None},
                                {"from": "gpt", "value": "b", "loss": True}]},
             {"conversations": [{"from": "human", "value": "a", "loss": None},
                                {"from": "gpt", "value": "b", "loss": None}]}]
    with pytest.raises(DataError, match="row 2 has no assistant turn"):
        trained(tmp_path, tokenizer, *agent, name="d.parquet")


def test_a_null_in_a_jsonl_row_that_a_call_means_is_kept(tmp_path, tokenizer):
    call = {"function": {"name": "add", "arguments": {"a": None}}}
    talk = [USER, {"role": "assistant", "content": None, "tool_calls": [call], "name": None}]
    assert '"arguments": {"a": null}' in trained(tmp_path, tokenizer, row(*talk))[0][0]


@pytest.mark.parametrize("name, content, reason", [
    ("d.jsonl", '{"prompt": "a"}\n\n{"prompt": NaN}', "d.jsonl, row 3 is not JSON.*NaN"),
    ("d.jsonl", '{"prompt": "a", "prompt": "b"}', "row 1 is not JSON.*'prompt' stands twice"),
    ("d.jsonl", '\r\n{"prompt": ' + "[" * 70 + "]" * 70 + "}\r\n", "row 2 is not JSON.*64 levels"),
    ("d.jsonl", '{"prompt": ' + "[" * 9000 + "\n", "row 1 is not JSON"),
    ("d.json", "", "d.json is not JSON.*is empty"),
    ("d.json", '{"rows": []}', "holds an object; a json data file is a list"),
    ("d.json", '[{"a": Infinity}]', "Infinity")])
def test_json_that_would_be_misread_is_refused_with_its_line(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=reason):
        read_rows(str(tmp_path / name))


@pytest.mark.parametrize("name, content", [("d.jsonl", '{"a": 1}\r\n\r\n{"a": 2}\r\n'),
                                           ("d.json", '[{"a": 1},\r\n{"a": 2}]')])
def test_a_byte_order_mark_and_windows_lines_are_read_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    rows = read_rows(str(tmp_path / name))
    assert [dict(row.values) for row in rows] == [{"a": 1}, {"a": 2}]
    assert rows[1].where.endswith("row 3" if name == "d.jsonl" else "row 2")


def test_the_prompt_of_a_row_is_the_same_for_both_phases():
    values = {"prompt": "2 + 2?", "question": "2 + 2", "answer": "<<2+2=4>>4"}
    assert row_messages(Row(values, "d", 0)).messages == [USER, FOUR | {"content": "<<2+2=4>>4"}]
