r"""Numbers in people's and models' writing: commas, currency, percent, fractions, scientific, LaTeX."""
import math
import re

_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    # a minus after a digit, a letter or a bracket subtracts
    r"(?P<sign>(?<![\w)\].])[-+])?(?:\$\s?(?P<sign2>[-+]?))?"
    rf"(?P<whole>{_UNSIGNED})"
    rf"(?:(?P<exponent>[eE][-+]?\d+(?!\w|\.\d))|\s*(?:[x*×]|\\times)\s*10\s*\^\s*\(?(?P<power>[-+]?\d+)\)?)?"
    rf"(?:\s*/\s*(?P<below>{_UNSIGNED})|\s+(?P<part>\d+)\s*/\s*(?P<part_below>\d+))?")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z])\s*\^\s*-?\d+")  # the 2 of m^2
_LATEX = (
    (re.compile(r"(?<=\d)(?=\\[dtc]?frac)"), " "),
    (re.compile(r"\\[dtc]?frac\s*{([^{}]*)}\s*{([^{}]*)}"), r"\1/\2 "),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1/\2 "),
    (re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname)\s*{([^{}]*)}"), r" \1 "),
    (re.compile(r"(?<=\d)(?:\\,|\\!|\{,\}|\\ )+(?=\d{3})"), ","),
    (re.compile(r",\\!|,\\,"), ","),
    (re.compile(r"\^\s*{([^{}]*)}"), r"^\1"),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\\(?:left|right|[,;:! ()\[\]])"), " "),
    (re.compile(r"\\cdot"), r"\\times"),
    (re.compile(r"[−–]"), "-"),
)


def plain(text: str) -> str:
    r"""Returns text with LaTeX's spelling of numbers (\frac, \text, \$, thin spaces) made plain."""
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def find_numbers(text: str) -> list[tuple[float, int, int]]:
    """Returns every number of a plain text as (value, start, end); a per cent sign does not change the
    value."""
    numbers = ((_value(match), match.start(), match.end()) for match in _NUMBER.finditer(text))
    return [number for number in numbers if number[0] is not None]


def parse_number(text: str) -> float | None:
    """Returns the value of a text that is one number with nothing but a currency, a sign or a unit around
    it."""
    text = _UNIT_POWER.sub("", plain(text))
    numbers = find_numbers(text)
    if len(numbers) != 1 or re.search(r"[^\s$(]", text[:numbers[0][1]]):
        return None
    return numbers[0][0]


def _value(match: re.Match) -> float | None:
    """A matched number's value, or None where it has none (division by zero, overflow)."""
    value = float(match["whole"].replace(",", ""))
    try:
        if match["exponent"] or match["power"]:
            value *= 10.0 ** int((match["exponent"] or "e" + match["power"])[1:])
        if match["below"]:
            value /= float(match["below"].replace(",", ""))
        if match["part"]:
            value += int(match["part"]) / int(match["part_below"])
    except (OverflowError, ZeroDivisionError, ValueError):
        return None
    negative = (match["sign"] == "-") != (match["sign2"] == "-")
    return (-value if negative else value) if math.isfinite(value) else None
