"""YAML as OmegaConf reads it: safe, each key once, 1e-6 a number, a date a text; and its interpolations."""
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from jaxrl_moe.paths import shortened
from jaxrl_moe.types import UserError

MANDATORY = "???"  # a value that somebody has to give
_WHOLE = re.compile(r"\$\{([^{}]*)\}")
_DEEPEST = 10
_FLOAT = re.compile(r"""[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?$
                        |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)$
                        |\.[0-9_]+(?:[eE][-+][0-9]+)?$
                        |[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$""", re.VERBOSE)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text",
                                                        key_node.start_mark)
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice",
                                                        key_node.start_mark)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "an alias (*name) stands there: write it out", mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:float",
                                                                         "tag:yaml.org,2002:timestamp")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def read(path: str) -> dict[str, Any]:
    """The file's mapping.

    Raises:
      UserError: it cannot be read, is no YAML, or no mapping; the line is named.
    """
    try:
        values = yaml.load(pathlib.Path(path).read_text(encoding="utf-8-sig"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{shortened(path)} cannot be read: {reason}. Name a YAML file.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{shortened(path)}{line} is no YAML that can be read: {reason}. Mend it "
                        "there.") from error
    if not isinstance(values, dict):
        raise UserError(f"{shortened(path)} holds no mapping of keys. Name the YAML file of a configuration.")
    return values


def filled(value: Any, values: Mapping[str, Any], source: str, depth: int = 0) -> Any:
    """A value with ${other.key} and ${oc.env:NAME,default} in it filled in.

    Args:
      value: of any type.
      values: all, by dotted key.
      source: for messages.
      depth: of interpolations in interpolations.

    Raises:
      UserError: one names a key or a variable that there is not, or itself.
    """
    if isinstance(value, list):
        return [filled(item, values, source, depth) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if depth > _DEEPEST:
        raise UserError(f"{source}: {value!r} leads back to itself. Write the value out.")
    whole = _WHOLE.fullmatch(value)
    if whole:
        return filled(_named(whole[1], values, source), values, source, depth + 1)
    text = _WHOLE.sub(lambda match: str(_named(match[1], values, source)), value)
    return filled(text, values, source, depth + 1) if text != value else value


def _named(name: str, values: Mapping[str, Any], source: str) -> Any:
    resolver, colon, argument = name.partition(":")
    if colon and resolver.strip() == "oc.env":
        variable, comma, default = argument.partition(",")
        if variable.strip() not in os.environ and not comma:
            raise UserError(f"{source}: ${{{name}}} names a variable that is not set. Set it, or write the "
                            "value.")
        return os.environ.get(variable.strip(), default.strip())
    if colon:
        raise UserError(f"{source}: ${{{name}}} asks for {resolver!r}, which is not known here. Write the "
                        "value.")
    if name not in values:
        raise UserError(f"{source}: ${{{name}}} names a key that is not given. Write the value.")
    return values[name]
