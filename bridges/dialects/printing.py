"""A translation printed as a recipe of ours, a comment for each line, or for lines that have the same."""
import itertools
import pprint
import textwrap
from collections.abc import Iterator

from bridges.dialects.translation import Assigned, Translation, Unused

_WIDTH = 110
_INDENT = "    "


def recipe(translation: Translation) -> str:
    """A Python file with get_config(), which scripts take by --config."""
    lines = [*_document(translation), "from jaxrl_moe.config import base", "", "", "def get_config():",
             f"{_INDENT}config = base()"]
    for _, group in itertools.groupby(translation.assigned, key=lambda each: each.key.partition(".")[0]):
        lines.append("")
        for why, alike in itertools.groupby(group, key=_why):
            lines += [*_comment(why), *itertools.chain.from_iterable(map(_statement, alike))]
    lines += ["", *_missing(translation), f"{_INDENT}return config"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _document(translation: Translation) -> Iterator[str]:
    what = f"Translated from {translation.dialect}: {translation.source}."
    yield '"""' + _safe(what)
    if translation.unused:
        yield ""
        yield "What changes nothing here:"
        for why in dict.fromkeys(unused.why for unused in translation.unused):
            yield from _bullet([unused for unused in translation.unused if unused.why == why], why)
    yield '"""'


def _bullet(group: list[Unused], why: str) -> list[str]:
    """Keys that have one reason."""
    named = ", ".join(f"{unused.key} = {unused.value}" for unused in group)
    return textwrap.wrap(_safe(f"- {named}: {why}"), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _safe(text: str) -> str:
    """Text that ends no docstring and escapes nothing in it."""
    return text.replace("\\", "/").replace('"""', "'''")


def _why(assigned: Assigned) -> str:
    return f"{assigned.origin}; {assigned.why}" if assigned.why else assigned.origin


def _statement(assigned: Assigned) -> list[str]:
    """The assignment, over several lines where one is too short for it."""
    line = f"{_INDENT}config.{assigned.key} = {assigned.value!r}"
    if len(line) <= _WIDTH:
        return [line]
    value = pprint.pformat(assigned.value, width=_WIDTH - 2 * len(_INDENT), sort_dicts=False)
    inner = textwrap.indent(value.removeprefix("(").removesuffix(")").replace("\n ", "\n"), 2 * _INDENT)
    closing = ",)" if isinstance(assigned.value, tuple) and len(assigned.value) == 1 else ")"
    return [f"{_INDENT}config.{assigned.key} = (", *inner.splitlines(), f"{_INDENT}{closing}"]


def _comment(text: str) -> list[str]:
    start = f"{_INDENT}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _missing(translation: Translation) -> Iterator[str]:
    for key, problem in translation.missing.items():
        yield from _comment(f"config.{key} is still to be set: it {problem.why}: {problem.mend}.")
