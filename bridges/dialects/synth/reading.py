"""From a TOML file of synth-ai's to a translation."""
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from bridges.dialects import env_file
from bridges.dialects.applying import flattened, translate, without_aliases
from bridges.dialects.synth.keys import ALIASES, KEYS
from bridges.dialects.translation import Translation
from bridges.dialects.words import options_of, single_file
from jaxrl_moe.config import ConfigError
from jaxrl_moe.paths import shortened
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import Problem, UserError


def read(words: Sequence[str]) -> Translation:
    """Of FILE.toml [--task-url=URL] [--env-file=FILE] [--type=rl]. Raises UserError."""
    options, files = options_of(words, ("task-url", "env-file", "type"))
    path = single_file(files, "synth", "FILE.toml")
    if options.get("type", "rl") != "rl":
        raise UserError(f"--type={quoted(options['type'])} is not what this trains: synth-ai's `sft` is "
                        "scripts/sft.py here, with a recipe. Leave it out, or give rl.")
    env_file.load_if_named(options)
    values = flattened(_toml(path), KEYS | dict.fromkeys(ALIASES))
    return translation(path, values, options.get("task-url", ""))


def translation(path: str, values: Mapping[str, Any], task_url: str = "") -> Translation:
    """Translates a TOML file's flat values.

    Args:
      path: of the file.
      values: by dotted key.
      task_url: of the command line, which goes before services.task_url; empty: none.

    Raises:
      ConfigError: what does not translate, all of it.
    """
    renamed, spelt = without_aliases(values, ALIASES, path)
    if task_url:
        renamed["services.task_url"] = task_url
        spelt["services.task_url"] = "--task-url"
    if not {"model.label"} & renamed.keys():
        renamed["model.label"] = pathlib.PurePath(path).stem
        spelt["model.label"] = "the file's name, as there is no model.label"
    if not {"model.base", "model.source"} & renamed.keys():
        raise ConfigError(Problem(f"{path}: model.base", None, "is absent", "name the model, as base = "
                          "\"Qwen/Qwen3-30B-A3B\""))
    return translate("synth", path, KEYS, renamed, spelt)


def _toml(path: str) -> dict[str, Any]:
    """Raises UserError: it cannot be read, or is no TOML; the line is named."""
    try:
        return tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{shortened(path)} cannot be read: {reason}. Name a TOML file.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{shortened(path)} is no TOML: {error}. Mend it there.") from error
