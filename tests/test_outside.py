"""JSON from outside: what is refused, and with which words."""
import json
import math

import pytest

from jaxrl_moe import outside
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.types import UserError


@pytest.mark.parametrize("text, words", [
    ("", "is empty"), (" \n", "is empty"), ("{", "line 1, column 2"),
    ('{"a": 1, "a": 2}', "'a' stands twice"),
    ('{"a": NaN}', "NaN is no JSON number"), ('{"a": -Infinity}', "-Infinity is no JSON number"),
    ("[" * 65 + "]" * 65, "more than 64 levels"), ("[" * 100_000, "more than 64 levels"),
    ("1" * 5000, "is no JSON that can be read"), ("{} {}", "Extra data")])
def test_what_is_no_strict_json_is_refused_with_its_place(text, words):
    with pytest.raises(OutsideError, match=words) as refusal:
        outside.parse(text, "x.json")
    assert str(refusal.value).startswith("x.json ")


@pytest.mark.parametrize("data", [b'{"a": "\xed\xa0\x80"}', b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16")])
def test_bytes_that_are_no_utf_8_are_no_json(data):
    with pytest.raises(OutsideError, match="^x .*codec"):
        outside.parse(data, "x")
    assert outside.parse(b'\xef\xbb\xbf{"a": 1}', "x") == {"a": 1}


def test_json_of_the_deepest_allowed_nesting_is_read():
    text = "[" * outside.DEEPEST + "]" * outside.DEEPEST
    assert outside.depth(outside.parse(text, "x")) == outside.DEEPEST


@pytest.mark.parametrize("value, levels", [(1, 0), ([], 1), ({}, 1), ({"a": [1]}, 2), ([[], [[1]]], 3)])
def test_depth_counts_levels(value, levels):
    assert outside.depth(value) == levels


@pytest.mark.parametrize("data, words", [
    (b"[]", "holds a list"), (b"null", "holds null"), (b"\xff\xfe", "no UTF-8"), (b"", "is empty"),
    (None, "does not exist")])
def test_a_file_that_holds_no_object_is_named(tmp_path, data, words):
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(OutsideError, match=words) as refusal:
        outside.read_object(path)
    assert str(path) in str(refusal.value)


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert outside.read_object(tmp_path / "a.json") == {"a": 1}


BAD = {
    "integer": [True, 1.0, "1", -1, 2**31, [1], {}], "number": [True, "1", math.inf, math.nan, 10**400, []],
    "boolean": [0, 1, "false", "true", []], "string": [1, True, []], "integers": [[True], [1.5], 3, ["1"]],
    "strings": [[1], "a", {"a": 1}], "object": [[], "x", 1]}


@pytest.mark.parametrize("method, value", [(method, value) for method in BAD for value in BAD[method]])
def test_a_value_of_another_kind_is_refused(method, value):
    with pytest.raises(OutsideError, match=r"^x\.json: a is .*is needed\.$"):
        getattr(Fields({"a": value}, "x.json"), method)("a")


@pytest.mark.parametrize("method, value", [
    ("integer", 0), ("integer", 2**31 - 1), ("number", 0.5), ("number", -3), ("boolean", False),
    ("string", ""), ("integers", []), ("integers", [1, 2]), ("strings", ["a"])])
def test_a_value_of_its_kind_is_returned(method, value):
    assert getattr(Fields({"a": value}, "x"), method)("a") == value


@pytest.mark.parametrize("method", BAD)
@pytest.mark.parametrize("values", [{}, {"a": None}])
def test_null_counts_as_absent(method, values):
    assert getattr(Fields(values, "x"), method)("a", "default") == "default"
    with pytest.raises(OutsideError, match="^x has no a; "):
        getattr(Fields(values, "x"), method)("a")


def test_bounds_are_said():
    fields = Fields({"a": 0, "b": 0.0}, "x")
    with pytest.raises(OutsideError, match="an integer from 1 to 4"):
        fields.integer("a", least=1, most=4)
    with pytest.raises(OutsideError, match="a finite number above 0 and of at most 1"):
        fields.number("b", above=0, most=1)
    assert fields.number("a") == 0.0 and isinstance(fields.number("a"), float)


def test_an_unknown_field_is_named_with_the_nearest():
    with pytest.raises(OutsideError, match="'raank' is not known here. Did you mean 'rank'"):
        Fields({"raank": 1}, "x").only(["rank", "alpha"])


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(OutsideError) as refusal:
        Fields({"a": "x" * 10**6}, "y").integer("a")
    assert len(str(refusal.value)) < 200


def test_objects_name_their_place():
    inner = Fields({"rope": {"theta": "x"}}, "config.json").object("rope")
    with pytest.raises(OutsideError, match=r'^config\.json: rope: theta is "x"'):
        inner.number("theta")
    assert json.loads(outside.shown({"a": 1})) == {"a": 1}


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\x1b[31m", "\u202e", "a" * 100_000, "words " * 20_000])
def test_every_refusal_can_be_printed_and_stays_short(text):
    for error in (UserError(f"no {text} here"), OutsideError(text)):
        str(error).encode()
        assert str(error).isprintable() and len(str(error)) <= 4003
    with pytest.raises(OutsideError) as refused:
        Fields({text: 5}, "it").string(text)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300
    assert str(UserError("one\ntwo")) == "one\ntwo" and UserError("é 中").args == ("é 中",)
