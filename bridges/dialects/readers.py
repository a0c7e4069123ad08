"""From a command line's words to a translation, dialect by dialect."""
import pathlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridges.dialects import env_file, skyrl, slime, synth
from bridges.dialects.applying import flattened, translate
from bridges.dialects.translation import Translation
from jaxrl_moe.foreign import Dialect, Foreign
from jaxrl_moe.paths import shortened, usable
from jaxrl_moe.spelling import did_you_mean, quoted
from jaxrl_moe.types import UserError

_OPTION = re.compile(r"--(?P<name>[a-z]+(?:[-_][a-z]+)*)(?:=(?P<value>.*))?", re.DOTALL)


def read_synth(words: Sequence[str]) -> Translation:
    """FILE.toml [--task-url=URL] [--env-file=FILE] [--type=rl]."""
    options, files = options_of(words, ("task-url", "env-file", "type"))
    path = _file(files, "synth", "FILE.toml")
    if options.get("type", "rl") != "rl":
        raise UserError(f"--type={quoted(options['type'])} is not what this trains: synth-ai's `sft` is "
                        "scripts/sft.py here, with a recipe. Leave it out, or give rl.")
    _load_environment(options)
    values = flattened(_toml(path), synth.TABLE_OF_KEYS | dict.fromkeys(synth.ALIASES))
    return synth.translation(path, values, options.get("task-url", ""))


def read_skyrl(words: Sequence[str]) -> Translation:
    """config.yaml [KEY=VALUE ...] [--env-file=FILE]."""
    options, rest = options_of(words, ("env-file",))
    files = [word for word in rest if skyrl.is_file(word)]
    overrides = [word for word in rest if not skyrl.is_file(word)]
    _load_environment(options)
    path = _file(files, "skyrl", "config.yaml") if files else ""
    return skyrl.translation(path, overrides)


def read_slime(words: Sequence[str]) -> Translation:
    """FLAGS [--env-file=FILE]."""
    kept = []
    options = {}
    following = iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name in ("--env-file", "--env_file"):
            options["env-file"] = value if equals else next(following, "")
        else:
            kept.append(word)
    _load_environment(options)
    return slime.translation(kept)


READ: Mapping[str, Callable[[Sequence[str]], Translation]] = {
    "synth": read_synth, "skyrl": read_skyrl, "slime": read_slime}
_ENDINGS = {"synth": (".toml",), "skyrl": (".yaml", ".yml")}


def _reader(name: str) -> Dialect:
    def read(words: Sequence[str]) -> Foreign:
        translation = READ[name](words)
        unused = len(translation.unused)
        without = f"; {unused} of its keys change nothing here" if unused else ""
        said = (f"{translation.source} ({name}): {len(translation.assigned)} settings{without}. "
                f"scripts/translate.py {name} prints each with its reason.")
        return Foreign(translation.settings(), translation.missing, said)
    return Dialect(name, _ENDINGS.get(name, ()), read)


READERS = tuple(map(_reader, READ))


def options_of(words: Sequence[str], known: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(options as {name with hyphens: value}, the other words) of "--name value" and "--name=value".

    Raises:
      UserError: an option that is not known, is given twice, or has no value.
    """
    options: dict[str, str] = {}
    rest: list[str] = []
    following = iter(words)
    for word in following:
        if not word.startswith("--"):
            rest.append(word)
            continue
        match = _OPTION.fullmatch(word)
        name = match["name"].replace("_", "-") if match else word
        if match is None or name not in known:
            raise UserError(f"{quoted(word)} is no option.{did_you_mean(name, known, prefix='--')} Beside "
                            "those of "
                            f"--help there are {', '.join('--' + each for each in known)}.")
        value = match["value"] if match["value"] is not None else next(following, "")
        if not value or options.setdefault(name, value) != value:
            raise UserError(f"--{name} {'is given twice' if value else 'has no value'}: write "
                            f"--{name}=VALUE once.")
    return options, rest


def _file(files: Sequence[str], dialect: str, form: str) -> str:
    if len(files) != 1:
        given = f"{len(files)} are given: {', '.join(map(shortened, files))}" if files else "none is given"
        raise UserError(f"{dialect} needs one {form}, and {given}.")
    return usable(files[0])


def _load_environment(options: Mapping[str, str]) -> None:
    if "env-file" in options:
        env_file.load(options["env-file"])


def _toml(path: str) -> dict[str, Any]:
    """Raises UserError: it cannot be read, or is no TOML; the line is named."""
    try:
        return tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{shortened(path)} cannot be read: {reason}. Name a TOML file.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{shortened(path)} is no TOML: {error}. Mend it there.") from error
