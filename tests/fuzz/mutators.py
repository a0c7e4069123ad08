"""What goes wrong with files: JSON whose shape or values changed, and bytes that were damaged on the way.

Every function takes a random.Random and returns (new content, what was done to it).
"""
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

DEEP = 100_000
LONG = 300_000


class Raw(str):
    """JSON text that Python's own values cannot say, such as 1e999."""


class Twice(str):
    """A key that equals no other, so that a dict can hold it beside its twin."""
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Step(NamedTuple):
    """A place in a tree: what holds it, and under which key or index."""
    holder: Any
    key: Any
    path: str


VALUES = tuple(map(Raw, (
    "null", "true", "false", '""', '"x"', '"false"', '"true"', '"null"', '" "', "-1", "0", "1", "2", "3", "7",
    "1.5", "-0.5", "1e-9", "1e999", "-1e999", "1e308", "NaN", "Infinity", "-Infinity", str(2**31 - 1),
    str(2**31), str(2**63), str(2**64), "9" * 5000, "[]", "{}", "[null]", "[[]]", "[1, 2]", '{"x": 1}', '"0"',
    '"1"', '"1.5"', '"NaN"', '"\\ud800"', '"a\\udc00b"', '"\\u0000"', '"a\\nb"', '"\\u202e"', '"../x"', '"."',
    '""', '".."', '"/"', '"/etc/passwd"', '"../beside/other.safetensors"', '"../beside/notes.txt"', '"~"',
    '"%s%n"', '"{x}"', '"{{ 7 * 7 }}"', "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP,
    '"' + "a" * LONG + '"')))


def dump(node: Any) -> str:
    """JSON text of a tree that may hold Raw and Twice."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {dump(value)}" for key, value in node.items()) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(dump, node)) + "]"
    return json.dumps(node)


def steps(node: Any, path: str = "$") -> list[Step]:
    """Every place below a node."""
    found = []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        here = f"{path}.{key}" if isinstance(node, dict) else f"{path}[{key}]"
        found += [Step(node, key, here), *steps(value, here)]
    return found


def mutate_json(rng: random.Random, text: bytes, only: Sequence[str] = ()) -> tuple[bytes, str]:
    """Changes one or two places of a JSON document. `only`: the first keys that are to be changed, if it is
    an object."""
    root = [json.loads(text)]
    done = []
    for _ in range(1 + (rng.random() < 0.15)):
        try:
            done.append(_change(rng, root, only))
        except (AttributeError, TypeError, IndexError, KeyError):  # the first change left nothing to change
            break
    return dump(root[0]).encode("utf-8", "surrogatepass"), "; ".join(done) or "nothing"


def _change(rng: random.Random, root: list, only: Sequence[str]) -> str:
    if rng.random() < 0.03:
        root[0] = rng.choice([*VALUES, [root[0]], json.dumps(root[0])])
        return f"$ := {_brief(root[0])}"
    places = steps(root[0])
    if only and rng.random() < 0.85:
        places = [step for step in places if step.path.split(".")[1].split("[")[0] in only] or places
    step = rng.choice(places)
    change = rng.choice([*[_replace] * 6, *[_nudge] * 4, _drop, _rename, _twice, _swap, _add, _wrap])
    return change(rng, step, places)


def _replace(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    step.holder[step.key] = rng.choice(VALUES)
    return f"{step.path} := {_brief(step.holder[step.key])}"


def _nudge(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    """A value that is near the old one, or the old one in another type."""
    value = step.holder[step.key]
    if isinstance(value, bool):
        near = [not value, int(value), str(value), str(value).lower()]
    elif isinstance(value, (int, float)):
        near = [value + 1, value - 1, -value, value * 2, float(value), str(value), [value], value + 0.5,
                bool(value), value * 1000, Raw(f"{value}e0"), f" {value}"]
    elif isinstance(value, str):
        near = [value + "x", value[:-1], value.upper(), value + " ", "\ufeff" + value, [value], value * 2,
                Raw(json.dumps(value)[:-1] + '\\u0000"'), "./" + value, "../" + value, {"text": value}]
    elif isinstance(value, list):
        near = [value + value[:1], value[:-1], value[::-1], value * 2,
                {str(place): item for place, item in enumerate(value)},
                value[0] if value else 0, json.dumps(value)]
    else:
        near = [[value], {} if value else {"x": 1}, json.dumps(value), 0, ""]
    step.holder[step.key] = rng.choice(near)
    return f"{step.path} := {_brief(step.holder[step.key])}"


def _drop(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    del step.holder[step.key]
    return f"{step.path} dropped"


def _rename(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    if not isinstance(step.holder, dict):
        return _replace(rng, step, places)
    key = step.key
    new = rng.choice([key + "s", key[:-1], key.upper(), key + " ", key.replace("_", "-"), key[::-1], "",
                      f"_{key}"])
    pairs = [(new if other == key else other, value) for other, value in step.holder.items()]
    step.holder.clear()
    step.holder.update(pairs)
    return f"{step.path} renamed to {new!r}"


def _twice(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    if not isinstance(step.holder, dict):
        return _replace(rng, step, places)
    value = rng.choice([step.holder[step.key], rng.choice(VALUES[:20])])
    step.holder[Twice(step.key)] = value
    return f"{step.path} a second time, as {_brief(value)}"


def _at(step: Step) -> Any:
    try:
        return step.holder[step.key]
    except (KeyError, IndexError):
        return None


def _swap(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    other = rng.choice(places)
    mine = step.holder[step.key]
    theirs = other.holder[other.key]
    if mine is step.holder or _holds(mine, other.holder) or _holds(theirs, step.holder):
        return _replace(rng, step, places)
    step.holder[step.key] = theirs
    other.holder[other.key] = mine
    return f"{step.path} and {other.path} swapped"


def _holds(node: Any, holder: Any) -> bool:
    return node is holder or any(_at(step) is holder for step in steps(node))


def _add(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    if isinstance(step.holder, dict):
        step.holder["added"] = rng.choice(VALUES)
    else:
        step.holder.insert(rng.randrange(len(step.holder) + 1), rng.choice(VALUES))
    return f"one more beside {step.path}"


def _wrap(rng: random.Random, step: Step, places: Sequence[Step]) -> str:
    value = step.holder[step.key]
    step.holder[step.key] = rng.choice([[value], {"value": value}, [value, value], json.dumps(dump(value))])
    return f"{step.path} wrapped"


def _brief(value: Any) -> str:
    text = dump(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def mutate_bytes(rng: random.Random, data: bytes, until: int = 0) -> tuple[bytes, str]:
    """Damages a file. `until`: only among its first bytes, such as a header; 0: anywhere."""
    name, change = rng.choice(_DAMAGES)
    place = rng.randrange(max(1, min(until or len(data), len(data))))
    return change(rng, data, place), f"{name} at byte {place}"


def _flip(rng: random.Random, data: bytes, place: int) -> bytes:
    return data[:place] + bytes([(data[place] if data else 0) ^ (1 << rng.randrange(8))]) + data[place + 1:]


def _zero(rng: random.Random, data: bytes, place: int) -> bytes:
    length = rng.choice((1, 4, 16, 512))
    return data[:place] + bytes(len(data[place:place + length])) + data[place + length:]


def _insert(rng: random.Random, data: bytes, place: int) -> bytes:
    new = rng.choice((b"\0", b"\xff", b"\n", b" ", b"\r", b"\x1a", b'"', b"}", b"[", b",", b"\xed\xa0\x80",
                      b"\xc3", bytes(rng.randrange(256) for _ in range(9))))
    return data[:place] + new + data[place:]


def _cut(rng: random.Random, data: bytes, place: int) -> bytes:
    return data[:place] + data[place + rng.choice((1, 2, 8, 64)):]


_DAMAGES: tuple[tuple[str, Callable[[random.Random, bytes, int], bytes]], ...] = (
    ("bit flipped", _flip), ("bit flipped", _flip), ("bit flipped", _flip),
    ("bytes set to zero", _zero),
    ("bytes inserted", _insert), ("bytes inserted", _insert),
    ("bytes left out", _cut),
    ("truncated", lambda rng, data, place: data[:place]),
    ("truncated by one", lambda rng, data, place: data[:-1]),
    ("nothing left", lambda rng, data, place: b""),
    ("byte order mark before all", lambda rng, data, place: b"\xef\xbb\xbf" + data),
    ("byte order mark", lambda rng, data, place: data[:place] + b"\xef\xbb\xbf" + data[place:]),
    ("CRLF", lambda rng, data, place: data.replace(b"\n", b"\r\n")),
    ("CR", lambda rng, data, place: data.replace(b"\n", b"\r")),
    ("UTF-16", lambda rng, data, place: data.decode("latin-1").encode("utf-16")),
    ("whole file twice", lambda rng, data, place: data + data),
    ("zeros behind", lambda rng, data, place: data + bytes(64)),
    ("a pointer of Git LFS instead", lambda rng, data, place: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n")),
    ("a page of HTML instead", lambda rng, data, place: b"<!DOCTYPE html><html><body>404</body></html>"),
)


def mutate_lines(rng: random.Random, data: bytes, only: Sequence[str] = ()) -> tuple[bytes, str]:
    """Changes a file of one JSON object a line."""
    lines = data.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    if rng.random() < 0.7:
        line, done = mutate_json(rng, lines[number], only)
        lines[number] = line + b"\n"
        return b"".join(lines), f"line {number + 1}: {done}"
    what = rng.choice(("dropped", "twice", "swapped", "blank", "noise", "joined", "no last end"))
    if what == "dropped":
        del lines[number]
    elif what == "twice":
        lines.insert(number, lines[number])
    elif what == "swapped":
        lines[number], lines[-1] = lines[-1], lines[number]
    elif what == "joined":
        lines[number] = lines[number].rstrip(b"\n")
    elif what == "no last end":
        lines[-1] = lines[-1].rstrip(b"\n")
    else:
        lines.insert(number, rng.choice(NOISE) if what == "noise" else rng.choice((b"\n", b"  \n", b"\r\n")))
    return b"".join(lines), f"line {number + 1} {what}"


NOISE = (b"\0\0\0\n", b"{\n", b"[]\n", b"7\n", b"null\n", b'"x"\n', b"{}\n", b"\xff\xfe\n", b"// a comment\n",
         b"[" * DEEP + b"\n", b"NaN\n", "\u2028\n".encode(), b"\x1e{}\n", b"---\n")
