"""The tokenizer wrapper: ids under the chat template, end ids, and errors that say what to mend."""
import json
import subprocess
import sys

import numpy as np
import pytest

from jaxrl_moe.data import tokenizer_files
from jaxrl_moe.data.tokenizer import TokenizerError, load_tokenizer
from tests.helpers.tiny_models import make_tokenizer

MESSAGES = [{"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is 12 plus 7?"}]


@pytest.fixture
def folder(tmp_path):
    make_tokenizer(tmp_path)
    return tmp_path


def test_render_gives_the_ids_of_the_chat_template(folder):
    tokenizer = load_tokenizer(str(folder))
    ids = tokenizer.render(MESSAGES)
    official = tokenizer.hf.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert ids.dtype == np.int32
    assert ids.tolist() == official
    assert tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is 12 plus "
        "7?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(ids).startswith("system\nYou are")


def test_decode_gives_back_the_encoded_text_to_the_byte(folder):
    tokenizer = load_tokenizer(str(folder))
    text = "  Tom's 3 apples , é漢\n\n#### 17 ."
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_without_torch_a_tokenizer_loads_silently_while_other_warnings_are_shown(folder):
    program = ("import sys; sys.modules['torch'] = None; from jaxrl_moe.data.tokenizer import "
               f"load_tokenizer; load_tokenizer({str(folder)!r}); import logging; "
               "logging.getLogger('transformers').warning('something else')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[transformers] something else" and not done.stdout


@pytest.mark.parametrize("generation, config, ends", [
    (None, None, (2,)),
    ([2, 0], None, (2, 0)),
    (None, 1, (2, 1)),       # of config.json alone
    (None, [5, 6], (2, 5, 6)),
    (0, [1, 0], (2, 0, 1)),  # all three together
    ([], None, (2,))])
def test_end_ids_are_those_of_the_tokenizer_of_generation_config_and_of_config(folder, generation, config,
                                                                               ends):
    for name, ids in (("generation_config.json", generation), ("config.json", config)):
        if ids is not None:
            (folder / name).write_text(json.dumps({"eos_token_id": ids, "pad_token_id": -1}))
    assert load_tokenizer(str(folder)).eos_ids == ends


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("text", ["{", "", "[]", "null", '{"eos_token_id": true}', '{"eos_token_id": "2"}',
                                  '{"eos_token_id": 2.0}', '{"eos_token_id": -1}',
                                  '{"eos_token_id": [2, null]}',
                                  '{"eos_token_id": {}}', '{"pad_token_id": "x"}', '{"a": 1, "a": 2}',
                                  '{"a": NaN}', '{"a":' * 99 + "1" + "}" * 99])
def test_damaged_files_of_end_ids_are_named(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(TokenizerError, match=f"/{name}"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("name, text", [
    ("tokenizer.json", "{"), ("tokenizer.json", ""), ("tokenizer.json", "[]"), ("tokenizer.json", "{}"),
    ("tokenizer.json", '{"model": {"type": "BPE"}}'),  # what the tokenizers package refuses
    ("tokenizer.json", '{"model": {"vocab": {"a": 0, "b": 0}}}'),
    ("tokenizer.json", '{"model": {"vocab": {"a": -1}}}'),
    ("tokenizer.json", '{"model": {}, "added_tokens": [{"id": "0", "content": "a"}]}'),
    ("tokenizer.json", '{"model": {}, "added_tokens": {}}'),
    ("tokenizer_config.json", '{"eos_token": 2}'), ("tokenizer_config.json", '{"eos_token": {"text": "a"}}'),
    ("tokenizer_config.json", '{"pad_token": {"content": "a", "lstrip": 0}}'),
    ("tokenizer_config.json", '{"add_bos_token": "false"}'),
    ("tokenizer_config.json", '{"chat_template": 5}'),
    ("tokenizer_config.json", '{"chat_template": [{"name": "default"}]}'),
    ("tokenizer_config.json", '{"chat_template": ["default"]}'),
    ("tokenizer_config.json", '{"added_tokens_decoder": []}'),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}'),
    ("tokenizer_config.json", '{"additional_special_tokens": "a"}'),
    ("tokenizer_config.json", '{"additional_special_tokens": [1]}'),
    ("tokenizer_config.json", '{"model_max_length": "long"}'), ("tokenizer_config.json", "["),
    ("special_tokens_map.json", '{"eos_token": ["a"]}'), ("special_tokens_map.json", "{]"),
    ("added_tokens.json", '{"a": "1"}'), ("added_tokens.json", "3")])
def test_a_damaged_file_of_the_tokenizer_is_named(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(TokenizerError, match=name):
        load_tokenizer(str(folder))


def test_ids_beyond_the_vocabulary_are_refused_with_the_token_or_the_file(folder):
    tokenizer = load_tokenizer(str(folder))
    size = len(tokenizer.hf)
    tokenizer.check_vocabulary(size)
    with pytest.raises(TokenizerError, match=f"has the id {size - 1}, .* holds 0 to {size - 2} "):
        tokenizer.check_vocabulary(size - 1)
    tokenizer.hf.add_tokens(["<added>"])
    with pytest.raises(TokenizerError, match=f"token '<added>' has the id {size},"):
        tokenizer.check_vocabulary(size)


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("key, ids", [("eos_token_id", [2, 320]), ("pad_token_id", 320),
                                      ("bos_token_id", 999)])
def test_ids_that_files_declare_beyond_the_vocabulary_are_refused(folder, name, key, ids):
    (folder / name).write_text(json.dumps({key: ids}))
    with pytest.raises(TokenizerError, match=f"{key} in {name} has the id"):
        load_tokenizer(str(folder)).check_vocabulary(320)


def test_a_stop_string_that_holds_a_special_token_is_refused_with_what_to_do_instead(folder):
    tokenizer = load_tokenizer(str(folder))
    tokenizer.check_stop_strings(["\n\n", "#### 1"])
    with pytest.raises(TokenizerError, match="<.im_end.>.*id 2.*ends completions anyway"):
        tokenizer.check_stop_strings(["<|im_end|>\n"])
    with pytest.raises(TokenizerError, match="id 1.*add its id to eos_token_id"):
        tokenizer.check_stop_strings(["<|im_start|>"])


def test_a_tokenizer_without_a_chat_template_is_an_error_that_names_the_file_to_add(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(TokenizerError, match="chat_template.jinja"):
        load_tokenizer(str(folder)).render(MESSAGES)


def test_a_template_that_refuses_a_conversation_is_an_error_with_its_reason(folder):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system role here') }}")
    with pytest.raises(TokenizerError, match=r"\['system', 'user'\].*no system role here"):
        load_tokenizer(str(folder)).render(MESSAGES)


@pytest.mark.parametrize("make, reason", [
    (lambda tmp: tmp, "no tokenizer files"),
    (lambda tmp: tmp / "absent" / "model" / "x", "neither a folder nor a hub name")])
def test_a_missing_tokenizer_is_an_error(tmp_path, make, reason):
    with pytest.raises(TokenizerError, match=reason):
        load_tokenizer(str(make(tmp_path)))


def test_what_the_hub_says_is_told_in_one_sentence_before_our_own(monkeypatch):
    import transformers

    def refuse(path):
        raise OSError("We couldn't connect to 'https://x' to load the files.\nCheck your connection.")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    monkeypatch.setattr(tokenizer_files, "declared_ids", lambda find: {})
    with pytest.raises(TokenizerError, match=r"from 'a/b': We couldn't connect to 'https://x' to load the "
                       r"files\. Give a folder with a whole tokenizer, or"):
        load_tokenizer("a/b")


def test_tools_and_variables_reach_a_template_that_reads_them_and_are_refused_by_one_that_does_not(tmp_path):
    hf = make_tokenizer(tmp_path)
    tool = {"type": "function", "function": {"name": "add"}}
    messages = [{"role": "user", "content": "hi"}]
    for options in ({"tools": [tool]}, {"variables": {"thinking": True}}, {"variables": {"tokenize": True}}):
        with pytest.raises(TokenizerError, match="reads no variable"):
            load_tokenizer(str(tmp_path)).render(messages, **options)
    hf.chat_template = "{% if tools %}{{ tools[0].function.name }}{% endif %}\n{{ thinking }} {{ tokenize }}"
    hf.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.render_text(messages, tools=[tool], variables={"thinking": 7}) == "add7 "
    with pytest.raises(TokenizerError, match="'tokenize'"):
        tokenizer.render(messages, variables={"tokenize": True})


def test_half_a_surrogate_pair_is_refused_as_no_text(folder):
    with pytest.raises(TokenizerError, match="character 2, half of a surrogate pair"):
        load_tokenizer(str(folder)).encode("ab\ud800")
