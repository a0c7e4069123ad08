"""What stands in a policy's answer: the page in it, and what that page would have a browser load."""
import html.parser
import re

_THOUGHT = re.compile(r"\A.*?</think>", re.DOTALL)
_FENCED = re.compile(r"```[ \t]*(?:html|HTML)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PAGE = re.compile(r"<!doctype html|<html", re.IGNORECASE)
_IN_STYLE = re.compile(r"url\(\s*['\"]?\s*([^'\")\s]*)|@import\s+['\"]([^'\"]*)", re.IGNORECASE)
_LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "manifest", "ping"}
_LINKED = {"link", "use", "image", "base", "feimage"}  # whose href is loaded, and not only followed


def page_of(text: str) -> str:
    """The page in an answer: the last block of code that is one, else all from where one begins; "" where
    there is none. What was thought before does not count."""
    said = _THOUGHT.sub("", text)
    blocks = [block for block in _FENCED.findall(said) if "<" in block]
    if blocks:
        return blocks[-1].strip()
    begin = _PAGE.search(said)
    return said[begin.start():].strip() if begin else ""


def text_of(text: str) -> str:
    """The text in an answer that is all text, without what was thought before, and out of a block of code."""
    said = _THOUGHT.sub("", text).strip()
    fenced = re.fullmatch(r"```[^\n]*\n(.*?)```", said, re.DOTALL)
    return fenced[1].strip() if fenced else said


def loaded(page: str) -> list[str]:
    """What a page would have a browser load or send to, but for what it brings along as data: and places
    within it; scripts stand as "script"."""
    reader = _LoadedThings()
    reader.feed(page)
    reader.close()
    outside = [url for url in reader.urls if url and not re.match(r"(?i)data:|#", url)]
    return outside + ["script"] * reader.scripts


class _LoadedThings(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.scripts = 0
        self._styles = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: (value or "").strip() for name, value in attributes}
        self.urls += [value for name, value in values.items() if name in _LOADING and value]
        if tag in _LINKED:
            self.urls += [values[name] for name in ("href", "xlink:href") if values.get(name)]
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.urls.append(values.get("content", "") or "refresh")
        self._style(values.get("style", ""))
        acting = any(name.startswith("on") for name in values) or any(
            value.lower().startswith("javascript:") for value in values.values())
        self.scripts += tag == "script" or acting
        self._styles = tag == "style"

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag: str) -> None:
        self._styles = False

    def handle_data(self, data: str) -> None:
        if self._styles:
            self._style(data)

    def _style(self, style: str) -> None:
        self.urls += [first or second for first, second in _IN_STYLE.findall(style)]
