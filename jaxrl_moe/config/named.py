"""Settings that give several things by name, such as textcraft=a.jsonl,babyai=b.jsonl."""
import re
from collections.abc import Mapping
from fractions import Fraction

from jaxrl_moe import paths
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError

MOST_SHARE = 10**9  # of a weight, and of how fine its fractions are
_NEXT = re.compile(r",(?=\s*[A-Za-z_]\w*\s*=)", re.ASCII)  # so that a path may hold commas
_NAMED = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>\S(.*\S)?)\s*", re.ASCII | re.DOTALL)
_FORM = "write name=value, several with commas between, such as textcraft=a.jsonl,babyai=b.jsonl"


class NamedError(UserError):
    """A text of named values that cannot be used; it goes on from the setting.

    Attributes:
      why, mend: as in Problem.
    """

    def __init__(self, why: str, mend: str):
        super().__init__(f"{why}: {mend}")
        self.why = why
        self.mend = mend


def named_values(text: str) -> dict[str, str]:
    """{name: value} of such a text, in its order; none of an empty one.

    Raises:
      NamedError: it is none such, or has a name twice.
    """
    values: dict[str, str] = {}
    for pair in _NEXT.split(text) if text else ():
        match = _NAMED.fullmatch(pair)
        if not match:
            raise NamedError(f"cannot be read at {quoted(pair.strip())}",
                             f"{_FORM}; names are of letters, digits and underscores")
        if match["name"] in values:
            raise NamedError(f"has the name {quoted(match['name'])} twice", "give each a name of its own")
        values[match["name"]] = match["value"]
    return values


def named_text(values: Mapping[str, str]) -> str:
    """The text that named_values reads to these."""
    return ",".join(f"{name}={value}" for name, value in values.items())


def expanded_files(text: str) -> str:
    """The text with `~` at the beginning of its paths as the home folder; as it is where it cannot be
    read."""
    if "~" not in text:
        return text
    try:
        files = named_values(text)
    except NamedError:  # refused where it is checked
        return text
    return named_text({name: paths.expanded(path) for name, path in files.items()})


def check_files(text: str) -> None:
    """Raises NamedError for a text that does not name files, each once."""
    files = named_values(text)
    for name, path in files.items():
        if paths.unusable(path):
            raise NamedError(f"names as {name} what {paths.unusable(path)}", "give another path")
        if list(files.values()).count(path) > 1:
            raise NamedError(f"names {quoted(path)} twice", "give each name another file")


def shares(text: str, names: Mapping[str, str]) -> dict[str, Fraction]:
    """The weight of each of the names, exactly as it is written; 1 each where the text is empty.

    Args:
      text: numbers in the order of the names, as "2,1", or by name, as "babyai=1,textcraft=2".
      names: all that have a weight.

    Raises:
      NamedError: a name is unknown or lacks its weight, there are too few or many, or one is not above 0.
    """
    if not text:
        return dict.fromkeys(names, Fraction(1))
    if "=" in text:
        given = named_values(text)
    else:
        numbers = text.split(",")
        if len(numbers) != len(names):
            raise NamedError(f"has {len(numbers)} numbers, and there are {len(names)} files",
                             "give each one, in their order, or by name, as in textcraft=2,babyai=1")
        given = dict(zip(names, numbers))
    unknown = [name for name in given if name not in names]
    if unknown:
        raise NamedError(f"weighs {quoted(unknown[0])}, and there is no such file",
                         f"weigh {', '.join(names)}")
    lacking = [name for name in names if name not in given]
    if lacking:
        raise NamedError(f"gives {lacking[0]} no weight", f"give each of {', '.join(names)} one")
    return {name: _share(name, given[name]) for name in names}


def _share(name: str, text: str) -> Fraction:
    try:
        share = Fraction(text.strip()) if len(text) < 50 and "_" not in text else None
    except (ValueError, ZeroDivisionError):
        share = None
    if share is None or not 0 < share <= MOST_SHARE or share.denominator > MOST_SHARE:
        raise NamedError(f"gives {name} the weight {quoted(text.strip())}",
                         f"give a number above 0 and at most {MOST_SHARE}, such as 2 or 0.5")
    return share
