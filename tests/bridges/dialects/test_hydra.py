"""Dotted overrides and YAML: what is expected was printed by Hydra's own parser and by OmegaConf."""
import math

import pytest

from bridges.dialects.skyrl import hydra, yaml_file
from jaxrl_moe.types import UserError

VALUES = [
    ("1", 1), ("-1", -1), ("+1", 1), ("0", 0), ("007", "007"), ("1_000", 1000), ("1__0", "1__0"),
    ("1e-6", 1e-6), ("1E5", 1e5), ("1.0e-6", 1e-6), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5),
    ("inf", math.inf),
    ("-inf", -math.inf), ("1_0.5", 10.5), ("1e", "1e"), ("e5", "e5"), ("0x10", "0x10"), ("true", True),
    ("TRUE", True), ("false", False), ("null", None), ("Null", None), ("none", "none"), ("yes", "yes"),
    ("on", "on"), ("nul", "nul"), ("1true", "1true"), ("abc", "abc"), ("a b", "a b"), (" a ", "a"),
    ("a/b/c.parquet", "a/b/c.parquet"), ("a:b", "a:b"), ("http://x:80/y", "http://x:80/y"), ("1 2", "1 2"),
    ("1.2.3", "1.2.3"), ("~/a", None), ("50%", "50%"), ("$x", "$x"), ("", ""), ("  ", ""), ("-", "-"),
    ("a\\,b", "a,b"), ("a\\ b", "a b"), ("\\\\x", "\\x"), ("'1'", "1"), ("\"true\"", "true"),
    ("'a, b'", "a, b"), ("'it\\'s'", "it's"), ('"a \\" b"', 'a " b'), ("\"a\\'b\"", "a\\'b"),
    ("'a\\\\b'", "a\\\\b"), ("'a\\nb'", "a\\nb"), ("${trainer.x}", "${trainer.x}"),
    ("${oc.env:HOME}/a", "${oc.env:HOME}/a"), ("[]", []), ("[a,b]", ["a", "b"]), ("[ a , b ]", ["a", "b"]),
    ("[1,2.5,true,null,x]", [1, 2.5, True, None, "x"]), ('["1", 1]', ["1", 1]),
    ("[[1,2],[3]]", [[1, 2], [3]]),
    ("[path/to/train.parquet]", ["path/to/train.parquet"]),
    ('["path/to/train data.parquet"]', ["path/to/train data.parquet"]), ("[a b, c d]", ["a b", "c d"]),
    ("{}", {}), ("{a:1,b:x}", {"a": 1, "b": "x"}), ("{a: [1,2], b: {c: d}}", {"a": [1, 2], "b": {"c": "d"}}),
    ("{1: 2}", {1: 2}), ("{a:null}", {"a": None})]
REFUSED = ["1,2", "a,b", "choice(a,b)", "range(1,3)", "[a", "{a:1", "'a", "a]", "a#b", "a;b", "(a)", "a=b",
           "a'b",
           "[1,]", "[,1]", "{a:1,}", "{'a b': 1}", "'x' y", "y 'x'", "\u20ac", "[" * 100]


@pytest.mark.parametrize("text, value", [case for case in VALUES if case[0] != "~/a"])
def test_a_value_is_what_hydra_makes_of_it(text, value):
    read = hydra.override(f"k={text}").value
    assert read == value and type(read) is type(value)


def test_what_is_no_number_to_hydra_is_none_here():
    assert math.isnan(hydra.override("k=nan").value)
    with pytest.raises(UserError):
        hydra.override("k=~/a")


@pytest.mark.parametrize("text", REFUSED)
def test_what_hydra_refuses_or_makes_several_runs_of_is_refused(text):
    with pytest.raises(UserError, match="cannot be read"):
        hydra.override(f"k={text}")


@pytest.mark.parametrize("text, mode, key, value", [
    ("a.b=1", "", "a.b", 1), ("+a.b=1", "+", "a.b", 1), ("++a.b=1", "++", "a.b", 1),
    ("~a.b", "~", "a.b", None),
    ("~a.b=1", "~", "a.b", 1), ("a-b=1", "", "a-b", 1), ("a.b-c.d_e=2", "", "a.b-c.d_e", 2),
    ("a.0=1", "", "a.0", 1)])
def test_a_key_is_changed_added_forced_or_taken_away(text, mode, key, value):
    read = hydra.override(text)
    assert (read.mode, read.key, read.value, read.has_value) == (mode, key, value, "=" in text)


@pytest.mark.parametrize("text", ["a", "+a.b", "a b=1", "1a=1", "a..b=1", "a.=1", "=1", "a/b=c", "a@b=c"])
def test_what_is_no_override_is_refused(text):
    with pytest.raises(UserError, match="is no override|Hydra's groups"):
        hydra.override(text)


@pytest.mark.parametrize("text, value", [
    ("1e-6", 1e-6), ("1.0e-6", 1e-6), ("1E5", 1e5), ("-1e-3", -1e-3), ("1e", "1e"), ("yes", True),
    ("no", False),
    ("2024-01-01", "2024-01-01"), ("010", 8), ("0x10", 16), ("1_000", 1000), ("~", None), (".5", 0.5),
    ("1.", 1.0),
    ("'1'", "1"), ("[1, x]", [1, "x"]), (".inf", math.inf), ("1_0.5", 10.5)])
def test_a_files_value_is_what_omegaconf_makes_of_it(text, value, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {text}\n")
    read = yaml_file.read(str(path))["a"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("text, message", [
    ("a: 1\na: 2\n", "line 2 .*'a' stands twice"), ("a: [\n", "is no YAML"), ("- a\n", "no mapping"),
    ("a: &x 1\nb: *x\n", "line 2 .*alias"), ("a: !!python/object:os.system x\n", "is no YAML"),
    ("1: 2\n", "is no text"), ("", "no mapping")])
def test_a_file_that_is_none_is_refused_with_its_line(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        yaml_file.read(str(path))


def test_interpolations_are_filled_in(monkeypatch):
    monkeypatch.setenv("THERE", "x")
    values = {"a": 3, "b": "${a}", "c": "n${b}"}
    filled = [yaml_file.filled(text, values, "f") for text in (
        "${a}", "${b}", "${c}/m", ["${oc.env:THERE}"], "${oc.env:ABSENT,dflt}", "plain")]
    assert filled == [3, 3, "n3/m", ["x"], "dflt", "plain"]


@pytest.mark.parametrize("text, message", [
    ("${oc.env:ABSENT}", "is not set"), ("${now:%Y}", "is not known"), ("${none.such}", "is not given"),
    ("${a}", "back to itself")])
def test_an_interpolation_that_leads_nowhere_is_refused(text, message, monkeypatch):
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(UserError, match=message):
        yaml_file.filled(text, {"a": "${a}"}, "f")
