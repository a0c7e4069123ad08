"""Overrides on the command line, and values in a recipe: what was written is what is set, in its type."""
import ast
import contextlib
import dataclasses
import io
import math
import os
import pathlib
import random
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe import config as config_lib
from jaxrl_moe.checks import entry, start
from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.types import UserError
from tests.fuzz.reading import same
from tests.fuzz.runner import Target, Wrong

RECIPE = """from jaxrl_moe.config import base

def get_config():
    config = base()
    config.model.path = "m"
    config.data.path = "d"
    config.data.eval_path = "e"
    config.env.name = "gsm8k"
    return config
"""
WORDS = (
    "", " ", "x", "true", "True", "TRUE", "false", "no", "off", "None", "null", "nan", "NaN", "inf", "-inf",
    "1e999",
    "0", "1", "2", "-1", "-0", "+3", "3.0", "0.5", ".5", "1.", "1e-3", "1E3", "1_000", "1,000", " 3", "3 ",
    "0x10",
    "0b11", "07", "\uff13", "\u0663", "2147483647", "2147483648", "9223372036854775808", "9" * 400, "1e400",
    "a,b",
    "a,,b", ",a,", "a b", "a;b", "(1,2)", "(1,)", "[1, 2]", "['a','b']", "('a',)", "('a', None)", "(True,)",
    "()",
    "[]", "{}", "{'a': 1}", "'", '"', '"a"', "'3'", "(", ")", "[", "a(b,c)", "a(b=1", "gsm8k(binary=true)",
    "gsm8k(binary=maybe)", "gsm8k(tau=1e999)", "grpo(", "grpo(eps=nan)", "os:system", "../x", "~", "~/x",
    "~nobody/x", "/etc/passwd", "a\nb", "\udcff", "\u202ex", "x" * 10_000, "=", "a=b",
    "--config.seed=5", "\n", "\n\n,END",
    "$HOME", "%s", "{x}", "\\", "__import__('os').system('touch outside')", "1;2", "1j", "lambda: 0", "...")
# Shapes of an argument other than --config.KEY=VALUE.
SHAPES = ("--config.{key}", "--noconfig.{key}", "-config.{key}={value}", "--config.{key}.x={value}",
          "--config.{section}={value}", "--config.{key}=={value}", "--config.{section}.__class__={value}",
          "--config.{key} ={value}", "--config.{upper}={value}", "--config.{key}[0]={value}",
          "--config={value}",
          "--config.={value}", "--config..{key}={value}", "--config.{key}:={value}",
          "---config.{key}={value}",
          "config.{key}={value}", "{key}={value}", "--{key}={value}", "--config:{key}={value}", "--", "-",
          "--config.{dashed}={value}", "--Config.{key}={value}", "\u2013\u2013config.{key}={value}")


class Overrides(Target):
    """--config.KEY=VALUE, as every script with a recipe reads them."""
    name = "overrides"
    named = False
    system_errors = True
    share = 1.5

    def prepare(self, inputs: pathlib.Path) -> None:
        (inputs / "recipe.py").write_text(RECIPE)
        self.fields = config_lib.known_fields()
        self.arguments = ["--config.seed=3"]
        self.want: dict[str, Any] | None = {"seed": 3}

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        self.arguments = []
        self.want = {}
        for _ in range(rng.choice((1, 1, 1, 2))):
            key = rng.choice([*self.fields])
            value = rng.choice(WORDS) if rng.random() < 0.8 else config_lib.shown(self.fields[key].default)
            if rng.random() < 0.15:
                shape = rng.choice(SHAPES)
                self.want = None
                value = value if value != config_lib.shown(self.fields[key].default) else value + "x"
                self.arguments.append(shape.format(key=key, section=key.split(".")[0], value=value,
                                                   upper=key.upper(), dashed=key.replace("_", "-")))
                continue
            self.arguments.append(f"--config.{key}={value}")
            if self.want is not None:
                self.want[key] = NOTHING if key in self.want else meant(self.fields[key], value)
        return {}, " ".join(self.arguments)[:300]

    def call(self, arena):
        given: list[Any] = []

        def main(config: Any) -> None:
            """Notes the settings."""
            refuse(entry.here(start.training(config, None)))
            given.append(config)

        with _alone(["script", f"--config={arena.inputs / 'recipe.py'}", *self.arguments]):
            _run(main)
        if not given:
            raise Wrong("it ended well, and did nothing")
        return given[0]

    def judge(self, arena, result):
        if self.want is None:
            return self._shaped(result)
        expected = dataclasses.asdict(config_lib.Config())
        for section, key, value in (("model", "path", "m"), ("data", "path", "d"), ("data", "eval_path", "e"),
                                    ("env", "name", "gsm8k")):
            expected[section][key] = value
        for key, value in self.want.items():
            got = config_lib.value_of(result, key)
            if value is NOTHING:
                return f"what cannot be read was taken: {key} = {str(got)[:60]!r}"
            if not same(got, value):
                return f"another value than was written: {key} = {str(got)[:60]!r}, not {str(value)[:60]!r}"
        changed = [key for key in self.fields if key not in self.want and not same(
            config_lib.value_of(result, key), _in(expected, key))]
        return f"other settings changed: {changed}" if changed else ""

    def _shaped(self, result: Any) -> str:
        """An argument of an odd shape that was accepted must have changed something."""
        untouched = config_lib.resolve(_recipe())
        ends = any(argument.split("=")[0] in ("-", "--") or argument.startswith("--noconfig")
                   for argument in self.arguments)
        return "an argument was taken and changed nothing" if result == untouched and not ends else ""


# What a recipe may set, as Python's code.
CODE = (
    "None", "True", "1", "1.5", "-1", "float('nan')", "float('inf')", "10**400", "''", "'x'", "' '", "()",
    "('a',)", "(1,)", "(1.5, 'x')", "['a']", "{'a': 1}", "{}", "b'x'", "object()", "lambda: 1", "set()",
    "range(3)", "1j", "__import__('numpy').float32(1.5)", "__import__('numpy').int64(3)",
    "__import__('numpy').array([1, 2])", "__import__('pathlib').Path('x')",
    "__import__('decimal').Decimal('1')", "'a\\0b'", "'\\ud800'", "'x' * 10**5", "(None,)",
    "(True, False)", "'true'", "'3'", "type('T', (), {})")


class RecipeValues(Overrides):
    """Values that a recipe sets, which Python gives any type."""
    name = "recipe"
    share = 0.8

    def mutate(self, rng, inputs):
        key = rng.choice([*self.fields])
        value = rng.choice(CODE)
        self.arguments = []
        self.want = None
        self.key, self.value = key, value
        text = RECIPE.replace("    return", f"    config.{key} = {value}\n    return")
        return {"recipe.py": text.encode()}, f"config.{key} = {value}"

    def judge(self, arena, result):
        if not hasattr(self, "value"):
            return ""
        given = eval(self.value)  # noqa: S307 (our own table)
        got = config_lib.value_of(result, self.key)
        if isinstance(given, list):
            given = tuple(given)
        fits = same(got, given) or (type(given) is int and type(got) is float and got == given)
        tuples = isinstance(got, tuple) and isinstance(given, str) and got == _split(given)
        floats = isinstance(got, tuple) and isinstance(given, tuple) and all(
            type(there) in (int, float) and here == there for here, there in zip(got, given, strict=True))
        if fits or tuples or floats:
            return ""
        return f"another value than was written: {self.key} = {str(got)[:60]!r} for {self.value}"


NOTHING = object()


def meant(field: dataclasses.Field, text: str) -> Any:
    """What the text means for a setting; NOTHING where it means nothing."""
    kind = field.type
    if kind is str:
        kind_of_text = config_lib.setting_of(field).kind
        if kind_of_text == "files":  # each path's home folder, and nothing else changes
            return re.sub(r"((?:^|,)\s*\w+\s*=\s*)(~[^,]*)",
                          lambda match: match[1] + os.path.expanduser(match[2]), text)
        return os.path.expanduser(text) if kind_of_text == "path" else text
    if kind is bool:
        return {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            text.lower(), NOTHING)
    if kind is int:
        return _number(text, lambda: int(text, 0) if text.strip()[:2].lower() in ("0x", "0b") else int(text))
    if kind is float:
        value = _number(text, lambda: float(text))
        return value if value is NOTHING or math.isfinite(value) else NOTHING
    return _items(typing.get_args(kind)[0], text)


def _split(text: str) -> tuple[str, ...]:
    """Values between commas, those in brackets left alone. Blanks around a value belong to nobody; blanks
    alone are one."""
    items = [""]
    depth = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += letter
    return tuple(item.strip() or item for item in items if item)


def _number(text: str, read: Any) -> Any:
    try:
        return read()
    except (ValueError, OverflowError):
        return NOTHING


def _items(kind: type, text: str) -> Any:
    if text.startswith(("(", "[")):
        try:
            items = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return NOTHING
        items = items if isinstance(items, (tuple, list)) else (items,)
    else:
        items = _split(text)
        if kind is float:
            items = tuple(_number(item, lambda item=item: float(item)) for item in items)
    if kind is str:
        return tuple(items) if all(type(item) is str for item in items) else NOTHING
    fits = all(type(item) in (int, float) and math.isfinite(item) for item in items)
    return tuple(map(float, items)) if fits else NOTHING


def _in(nested: dict, key: str) -> Any:
    for name in key.split("."):
        nested = nested[name]
    return nested


def _recipe() -> Any:
    names: dict[str, Any] = {}
    exec(RECIPE, names)  # noqa: S102 (our own text)
    return names["get_config"]()


def _run(main: Callable[[Any], None]) -> None:
    """cli.run, whose paragraph is raised as a UserError."""
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            cli.run(main)
    except SystemExit as end:
        text = words.getvalue()
        if "Traceback (most recent call last)" in text:
            raise Wrong("a traceback was printed", text[-2000:]) from end
        if end.code not in (0, None):
            raise UserError(text.encode("utf-8", "backslashreplace").decode()) from end  # as stderr does


@contextlib.contextmanager
def _alone(arguments: list[str]):
    """A command line of its own for one run; no flag that it defines stays."""
    before = set(flags.FLAGS)
    given = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = given
        for name in set(flags.FLAGS) - before:
            flags.FLAGS.remove_flag_values([name])
        flags.FLAGS.unparse_flags()


TARGETS = (Overrides, RecipeValues)
