"""What a page would have a browser load or send to, by the document that the browser has made of it: there is
no second reader of HTML that might see another page, or take long over one."""
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_LOADING = {"src", "srcset", "imagesrcset", "poster", "data", "background", "action", "formaction",
            "manifest", "ping"}
_LINKED = {"link", "use", "image", "base", "feimage"}  # whose href is loaded, and not only followed
_STYLING = {"style", "fill", "stroke", "filter", "mask", "clip-path", "cursor", "marker-start", "marker-mid",
            "marker-end"}
# Each of its repetitions ends where nothing is left to be tried again, so that time goes by length.
_IN_STYLE = re.compile(r"url\(\s*['\"]?\s*([^'\")\s]*)|@import\s+['\"]([^'\"]*)", re.IGNORECASE)
_WITHIN = ("data:", "#")


def loads_of(snapshot: Mapping[str, Any]) -> list[str]:
    """What is loaded, but for what the page brings along as data: and places within it; scripts stand as
    "script".

    Args:
      snapshot: answer of DOMSnapshot.captureSnapshot. Its first document is ours, in which the page stands as
        a frame; the others are the page and the frames in it. Shadow trees are in them.
    """
    strings = snapshot["strings"]
    urls: list[str] = []
    scripts = 0
    for document in snapshot["documents"][1:]:
        for tag, attributes, style in _elements(document["nodes"], strings):
            urls += _loaded(tag, attributes)
            urls += _in_style(style)
            scripts += tag == "script" or _acts(attributes)
    outside = [url for url in urls if url and not url.lower().startswith(_WITHIN)]
    return outside + ["script"] * scripts


def _elements(nodes: Mapping[str, Sequence[Any]],
              strings: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str], str]]:
    """(name, attributes, text of a style sheet in it) of each different element; a text in a style sheet
    counts as an element of its own. Browsers repeat elements that are not closed in time, as HTML has it: of
    a page's length are the different ones alone."""
    def said(index: int) -> str:
        return strings[index] if index >= 0 else ""  # -1 stands for an empty one
    names = [said(index).lower() for index in nodes["nodeName"]]
    told = set()
    for name, parent, value, listed in zip(names, nodes["parentIndex"], nodes["nodeValue"],
                                           nodes["attributes"]):
        in_sheet = name == "#text" and parent >= 0 and names[parent] == "style"
        element = (name, value if in_sheet else -1, *listed)
        if element in told:
            continue
        told.add(element)
        texts = [said(index) for index in listed]
        attributes = {key.lower(): text.strip() for key, text in zip(texts[::2], texts[1::2])}
        yield name, attributes, said(value) if in_sheet else ""


def _loaded(tag: str, attributes: Mapping[str, str]) -> Iterator[str]:
    """What the attributes of an element have loaded."""
    for name, value in attributes.items():
        if name in _LOADING or tag in _LINKED and name in ("href", "xlink:href"):
            yield value
        if name in _STYLING:
            yield from _in_style(value)
    if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
        yield attributes.get("content", "") or "refresh"


def _acts(attributes: Mapping[str, str]) -> bool:
    """Whether an element's attributes have scripts."""
    handlers = any(name.startswith("on") for name in attributes)
    return handlers or any(value.lower().startswith("javascript:") for value in attributes.values())


def _in_style(style: str) -> Iterable[str]:
    return (first or second for first, second in _IN_STYLE.findall(style))
