r"""The number that a completion gives as its answer.

What a model thinks in <think>...</think> is no answer: what follows the last </think> counts, and nothing
where the thinking never ends. A completion without either tag counts whole: whether its prompt opened the
thinking, the text does not tell.

There the number is looked for by the last \boxed{...} (or \fbox), else the last "Final Answer:", else the
last ####, and else it is the last number of the text. The last marker decides alone: where it states no
single number there is no answer, however many numbers stand elsewhere. "The final answer is" counts if a
number follows in its line, and #### followed by words is a heading.
"""
import re
from fractions import Fraction

from jaxrl_moe.envs.numbers import last_number, stated_number
from jaxrl_moe.envs.plain_text import plain

_TAG = r"(?:think|thinking|thought|reasoning)"
_OPEN = re.compile(rf"<{_TAG}>|\[THINK\]", re.IGNORECASE)
_CLOSE = re.compile(rf"</{_TAG}>|\[/THINK\]", re.IGNORECASE)
_MARKER = re.compile(r"####|\\(?:boxed|fbox)\b|final\s+answer", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])[ \t]*\n?[ \t]*")
_SKIPPED = r"(?:[\s*_`$>]|\\[\[(]|(?<=\n)[-•] )*"  # emphasis, beginnings of formulas and of the next line
_FINAL_ANSWER = re.compile(
    r"(?P<heading>^[ \t#*_\d.]*)?final\s+answer[ \t*_})]*(?:\([^()\n]{0,60}\)[ \t*_})]*)?"
    rf"(?:(?P<sure>[:：=])|(?P<is>\bis\b\s*[:：]?)|(?P<below>\n)){_SKIPPED}(?P<line>[^\n]*)",
    re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(rf"(?<!#)####(?!#){_SKIPPED}(?P<line>[^\n]*)")
_WORD = r"[^\W\d]"
_HEADING = re.compile(rf"[^\w\\]*(?:\d{{1,2}}[.)] +{_WORD}|{_WORD}? *{_WORD}{{2}})")
_NO_HEADING = re.compile(r"\W*\w+ ?=|.*\banswer\b", re.IGNORECASE)


def answer_part(completion: str) -> str:
    """What counts of a completion: all after the last </think>, up to where thinking is begun anew."""
    ends = [match.end() for match in _CLOSE.finditer(completion)]
    answer = completion[ends[-1]:] if ends else completion
    return _OPEN.split(answer, maxsplit=1)[0]


def has_marker(answer: str) -> bool:
    """Whether the answer is marked as such."""
    return bool(_MARKER.search(answer))


def final_number(answer: str) -> Fraction | None:
    """Returns the number that an answer gives, or None."""
    for content in (last_box(answer), _after_final_answer(answer), _after_hashes(answer)):
        if content is not None:
            return stated_number(content)
    return last_number(answer)


def last_box(text: str) -> str | None:
    """The content of the last box; the rest of its line where its braces never close, its first word without
    any."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if not text.startswith("{", start):
        words = text[start:start + 100].split()
        return words[0] if words else ""
    depth = 0
    for brace in re.finditer(r"(?<!\\)[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[start + 1:start + brace.start()]
    return text[start + 1:].partition("\n")[0]


def _after_final_answer(text: str) -> str | None:
    lines = [match["line"] for match in _FINAL_ANSWER.finditer(text) if _is_marker(match)]
    return lines[-1] if lines else None


def _is_marker(match: re.Match[str]) -> bool:
    """With a colon it is; as a verb where it says a number; without either where it is a line of its own."""
    if match["sure"]:
        return True
    has_digit = bool(re.search(r"\d", match["line"]))
    return has_digit and (match["is"] is not None or match["heading"] is not None)


def _after_hashes(text: str) -> str | None:
    lines = [match["line"] for match in _HASHES.finditer(text)]
    answers = [line for line in lines if not _is_heading(plain(line))]
    return answers[-1] if answers else None


def _is_heading(line: str) -> bool:
    return bool(_HEADING.match(line)) and not _NO_HEADING.match(line)
