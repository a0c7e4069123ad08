"""Expressions of others: matched as re does, refused where they are none, and never for long."""
import re

import pytest

from jaxrl_moe import expressions
from jaxrl_moe.expressions import ExpressionError, Expressions
from jaxrl_moe.model.layers import matches

NAME = "model.layers.0.self_attn.q_proj"
ENDLESS = r"(?:[a-z]|[a-z.]|[a-z_]|[a-z._]|[a-z.0-9_])+(?<![js])"


@pytest.mark.parametrize("expression", [".*q_proj", r".*\.[qk]_proj", "q_proj", "(?i).*Q_PROJ", "", r"(a+)+$",
                                        r"(?P<idx>.)+", r"model\.layers\.\d+\.(self_attn|mlp)\..*"])
def test_expressions_match_as_re_does(expression):
    assert bool(Expressions("x").fullmatch(expression, NAME)) is bool(re.fullmatch(expression, NAME))


@pytest.mark.parametrize("expression", ["(", "a**", "[", "(" * 900, "a" * 1001, "(?P<x>", "(?<=a*)("])
def test_what_is_no_expression_is_refused_and_whose_it_is_told(expression):
    with pytest.raises(ExpressionError, match="adapter_config.json: .*regular expression"):
        Expressions("adapter_config.json").compile(expression)


def test_all_names_together_have_a_time_that_ends(monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.2)
    for match in (Expressions("lora.targets").fullmatch, matches):
        with pytest.raises(ExpressionError, match="lora.targets.*takes more than 0.2 s"):
            match(ENDLESS, "attention.some_long_name.q_proj")
