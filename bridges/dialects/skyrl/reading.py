"""From SkyRL's YAML and overrides to a translation."""
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bridges.dialects import env_file
from bridges.dialects.applying import flattened, translate, without_aliases
from bridges.dialects.skyrl import hydra, yaml_file
from bridges.dialects.skyrl.keys import ALIASES, KEYS
from bridges.dialects.translation import Translation
from bridges.dialects.words import options_of, single_file
from jaxrl_moe.config import ConfigError
from jaxrl_moe.types import Problem, UserError


def read(words: Sequence[str]) -> Translation:
    """Of [config.yaml] [KEY=VALUE ...] [--env-file=FILE]; the file may be named as Hydra has it, by
    --config-path and --config-name. Raises UserError."""
    options, rest = options_of(words, ("env-file", "config-path", "config-name"))
    files = [*_named(options), *filter(_is_file, rest)]
    overrides = [word for word in rest if not _is_file(word)]
    env_file.load_if_named(options)
    path = single_file(files, "skyrl", "config.yaml") if files else ""
    return translation(path, overrides)


def _named(options: Mapping[str, str]) -> list[str]:
    """The file that --config-path and --config-name name."""
    name = options.get("config-name", "")
    if not name and "config-path" in options:
        raise UserError("--config-path names a folder: name its file by --config-name, or give the file "
                        "itself.")
    path = pathlib.PurePath(options.get("config-path", ""), name)
    return [str(path if path.suffix in (".yaml", ".yml") else f"{path}.yaml")] if name else []


def _is_file(word: str) -> bool:
    """Whether a word names a YAML file, and is no override."""
    return "=" not in word and pathlib.PurePath(word).suffix in (".yaml", ".yml")


def translation(path: str, overrides: Sequence[str]) -> Translation:
    """Translates a YAML file with overrides.

    Args:
      path: of the file; empty: overrides alone, over SkyRL's defaults.
      overrides: KEY=VALUE, as Hydra reads them.

    Raises:
      UserError: what does not translate, all of it.
    """
    source = path or "the command line"
    table = KEYS | dict.fromkeys(ALIASES)
    values = flattened(yaml_file.read(path), table) if path else {}
    for text in overrides:
        _override(hydra.override(text), values, table, source)
    known = {key: row.default for key, row in KEYS.items()} | values
    filled = {key: _filled(key, value, known, source) for key, value in values.items()}
    renamed, spelt = without_aliases(_given(filled, source), ALIASES, source)
    return translate("skyrl", source, KEYS, renamed, spelt)


def _override(wanted: hydra.Override, values: dict[str, Any], table: Mapping[str, Any], source: str) -> None:
    """Does to the values what an override asks for."""
    beneath = [key for key in values if key == wanted.key or key.startswith(wanted.key + ".")]
    if wanted.mode == "~":
        if not beneath or (wanted.has_value and values.get(wanted.key) != wanted.value):
            raise UserError(f"The override {wanted.text!r} takes away what {source} does not have: leave it "
                            "out.")
        for key in beneath:
            del values[key]
        return
    if wanted.mode == "+" and beneath:
        raise UserError(f"The override {wanted.text!r} adds what {source} has already: write it without the "
                        "+, or with ++.")
    for key in beneath:
        del values[key]
    nested: Any = wanted.value
    for name in reversed(wanted.key.split(".")):
        nested = {name: nested}
    values |= flattened(nested, table)


def _filled(key: str, value: Any, values: Mapping[str, Any], source: str) -> Any:
    """A value with its interpolations; what changes nothing here keeps them."""
    row = KEYS.get(ALIASES.get(key, key))
    if row is None or (row.effect is None and not row.read_by):
        return value
    return yaml_file.filled(value, values, f"{source}: {key}")


def _given(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The values; those that are still to be given are refused."""
    absent = [Problem(f"{source}: {key}", yaml_file.MANDATORY, "is still to be given", f"add {key}=VALUE")
              for key, value in values.items() if value == yaml_file.MANDATORY]
    if absent:
        raise ConfigError(*absent)
    return dict(values)
