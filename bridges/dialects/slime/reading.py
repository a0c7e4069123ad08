"""From slime's flags to a translation."""
from collections.abc import Sequence

from bridges.dialects import env_file
from bridges.dialects.applying import translate
from bridges.dialects.kinds import PASSED_ON, Kind
from bridges.dialects.rows import Key
from bridges.dialects.slime import devices, flags
from bridges.dialects.slime.keys import KEYS, SGLANG
from bridges.dialects.translation import Translation
from jaxrl_moe.types import UserError


def read(words: Sequence[str]) -> Translation:
    """Of FLAGS [--env-file=FILE]. Raises UserError."""
    kept = []
    options = {}
    following = iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name not in ("--env-file", "--env_file"):
            kept.append(word)
            continue
        options["env-file"] = value if equals else next(following, "")
        if not options["env-file"]:
            raise UserError("--env-file has no value: write --env-file=FILE.")
    env_file.load_if_named(options)
    return translation(kept)


class _Kinds(dict[str, Kind]):
    """What flags take; those that go on to SGLang take what they like."""

    def get(self, name: str, default: Kind | None = None) -> Kind | None:
        return PASSED_ON if name.startswith(SGLANG) else super().get(name, default)


def translation(words: Sequence[str]) -> Translation:
    """Translates flags.

    Raises:
      ConfigError: what does not translate, all of it.
    """
    values = flags.read(words, _Kinds({name: row.kind for name, row in KEYS.items()}))
    passed_on = {name for name in values if name.startswith(SGLANG)}
    table = KEYS | {name: Key(PASSED_ON, devices.for_sglang, "") for name in passed_on}
    spelt = {name: f"--{name}" for name in table}
    return translate("slime", "the command line", table, values, spelt)
