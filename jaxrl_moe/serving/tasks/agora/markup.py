"""What stands in a policy's answer, which may hold anything: each reader takes time by its length alone."""
import re

_THOUGHT = "</think>"
_FENCED = re.compile(r"```[ \t]*(?:(?:html|HTML)[ \t]*)?\n(.*?)(?:```|\Z)", re.DOTALL)
_PAGE = re.compile(r"<!doctype html|<html", re.IGNORECASE)
_TAG = re.compile(r"<[a-zA-Z/]")
_SIGNS = re.compile(r"(?m)^#|\*\*|^[*_]{3}|\]\(")


def page_of(text: str) -> str:
    """The page in an answer: the last block of code that is one, else all from where one begins; "" where
    there is none. What was thought before does not count."""
    said = _said(text)
    blocks = [block for block in _FENCED.findall(said) if "<" in block]
    if blocks:
        return blocks[-1].strip()
    begin = _PAGE.search(said)
    return said[begin.start():].strip() if begin else ""


def text_of(text: str) -> str:
    """The text in an answer that is all text, without what was thought before, and out of a block of code."""
    said = _said(text).strip()
    fenced = re.fullmatch(r"```[^\n]*\n(.*?)```", said, re.DOTALL)
    return fenced[1].strip() if fenced else said


def has_markup(text: str) -> bool:
    """Whether a text has signs of Markdown, or a tag, which ends in its line."""
    return bool(_SIGNS.search(text)) or any(map(_has_tag, text.split("\n")))


def _has_tag(line: str) -> bool:
    """One search for the first tag's beginning does: what ends a later one ends that too."""
    begin = _TAG.search(line)
    return begin is not None and ">" in line[begin.end():]


def _said(text: str) -> str:
    """The text without what was thought first."""
    before, thought, after = text.partition(_THOUGHT)
    return after if thought else before
