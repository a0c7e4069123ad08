"""Settings that give several things by name: read in one form, or refused with what is wrong."""
from fractions import Fraction

import pytest

from jaxrl_moe.config import Config, ConfigError, DataSection, resolve
from jaxrl_moe.config.named import NamedError, named_text, named_values, shares


@pytest.mark.parametrize("text, values", [
    ("", {}), ("a=x.jsonl", {"a": "x.jsonl"}), (" a = x , b=y ", {"a": "x", "b": "y"}),
    ("a=x,y.jsonl,b_2=z", {"a": "x,y.jsonl", "b_2": "z"}), ("a=x=y", {"a": "x=y"}),
    ("b=org/name:part,a=/tmp/a b/c", {"b": "org/name:part", "a": "/tmp/a b/c"}), ("a=x,é=y", {"a": "x,é=y"})])
def test_values_are_read_by_name_in_their_order(text, values):
    assert named_values(text) == values and list(named_values(text)) == list(values)
    assert named_values(named_text(values)) == values


@pytest.mark.parametrize("text, told", [
    ("x.jsonl", "cannot be read at 'x.jsonl'"), (" ", "cannot be read at ''"),
    ("a=", "cannot be read at 'a='"), ("=x", "cannot be read"),
    ("a=x,b=", "cannot be read at 'b='"), ("1a=x", "cannot be read"), ("a b=x", "cannot be read"),
    ("a=x,a=y", "has the name 'a' twice"), (",", "cannot be read"), ("a=1,b=2,b=1", "name 'b' twice"),
    ("a=x,b=x", "names 'x' twice"), ("a=x\0", "names as a what holds a NUL character"),
    ("a=~nobody_of_that_name/x", "names as a what begins with the home folder of 'nobody_of_that_name'")])
@pytest.mark.parametrize("key", ["data.files", "data.eval_files", "sft.files"])
def test_what_names_no_files_is_refused_with_the_setting(key, text, told):
    section, _, name = key.partition(".")
    with pytest.raises(ConfigError, match=f"^{key} = .*{told}.*: "):
        resolve({section: {name: text}})


def test_home_folders_of_named_files_are_filled_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    config = resolve({"data": {"files": "a=~/a.jsonl,b=./~/b", "eval_files": "a=x , b=y"},
                      "sft": {"files": "a=~/s"}})
    assert config.data.prompt_files == {"a": "/home/her/a.jsonl", "b": "./~/b"}
    assert config.data.eval_files == "a=x , b=y" and config.sft.conversation_files == {"a": "/home/her/s"}


def test_one_file_has_no_name_and_what_is_read_is_said_by_its_setting():
    data = DataSection(path="p", eval_seeds="1-3")
    assert (data.prompt_files, data.field, data.source) == ({"": "p"}, "data.path", "p")
    assert (data.held_out_files, data.eval_field, data.eval_source) == ({}, "data.eval_seeds", "seeds 1-3")
    several = DataSection(files="a=p", eval_files="a=e")
    assert (several.field, several.eval_field) == ("data.files", "data.eval_files")
    assert data.shares == {} and Config().sft.conversation_files == {}


@pytest.mark.parametrize("text, weights", [
    ("", (1, 1)), ("2,1", (2, 1)), (" 0.1 , 0.3 ", (Fraction(1, 10), Fraction(3, 10))), ("b=3,a=1", (1, 3)),
    ("1e-3,1/3", (Fraction(1, 1000), Fraction(1, 3)))])
def test_weights_are_exactly_what_is_written(text, weights):
    found = shares(text, {"a": "x", "b": "y"})
    assert found == dict(zip(("a", "b"), weights)) and list(found) == ["a", "b"]


@pytest.mark.parametrize("text, told", [
    ("1", "has 1 numbers, and there are 2 files"), (" ", "has 1 numbers"),
    ("1,2,3", "has 3 numbers"), ("a=1", "gives b no weight"),
    ("a=1,c=2", "weighs 'c', and there is no such file: weigh a, b"), ("0,1", "gives a the weight '0'"),
    ("-1,1", "the weight '-1'"), ("nan,1", "the weight 'nan'"), ("inf,1", "the weight 'inf'"),
    ("1e400,1", "the weight '1e400'"), ("1,", "gives b the weight ''"), ("a=1,a=2,b=1", "name 'a' twice"),
    ("1e-99,1", "the weight"), ("1_0,1", "the weight"), ("x,y", "the weight 'x'"), ("1/0,1", "the weight"),
    ("9" * 5000 + ",1", "the weight")])
def test_weights_that_are_none_are_refused(text, told):
    with pytest.raises(NamedError, match=told):
        shares(text, {"a": "x", "b": "y"})


def test_what_is_made_is_made_for_each_file_in_its_folder():
    data = DataSection(files="a=f/a/train.jsonl,b=f/b/train.jsonl", generate="b=babyai_terse")
    assert {name: (made, str(folder)) for name, (made, folder) in data.generated.items()} == {
        "b": ("babyai_terse", "f/b")}
    assert DataSection(path="d/train.jsonl", generate="babyai").generated[""][0] == "babyai"
    assert DataSection(path="d/train.jsonl").generated == {}
    for wrong in (dict(files="a=x/y", generate="babyai"), dict(path="x/y", generate="a=babyai"),
                  dict(files="a=x/y", generate="b=babyai")):
        with pytest.raises(NamedError, match="has (the name '[ab]'|no name), and the prompts are those of"):
            _ = DataSection(**wrong).generated


@pytest.mark.parametrize("text", ["a=poems", "a=", "a=babyai,b=", "=babyai", "a=babyai,a=babyai"])
def test_what_cannot_be_made_is_refused_by_name_too(text):
    with pytest.raises(ConfigError, match="^data.generate = .*is not known: use .*name=choice for each name"):
        resolve({"data": {"generate": text}})
    assert resolve({"data": {"generate": "a=babyai,b=textcraft"}}).data.generate == "a=babyai,b=textcraft"
