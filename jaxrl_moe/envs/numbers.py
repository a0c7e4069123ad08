r"""Numbers in people's and models' writing: groups of digits, currency, percent, fractions, powers, LaTeX.

Values are exact, so that 10^17 and 10^17 + 1 differ. 1.000 is one, 1.000.000 a million and 1.000,50 a
thousand and a half; a decimal comma without groups before it is none, as 3,50 may be a list.
"""
import re
from fractions import Fraction

from jaxrl_moe.envs.plain_text import plain

_DIGITS = 400    # of a number; longer ones have no value
_EXPONENT = 308  # likewise
# Groups are counted, so that no run of them is gone through again and again.
_UNSIGNED = (r"(?:\d{1,3}(?:,\d{3}){1,40}(?!\d)(?:\.\d+)?"          # 1,234.5
             r"|\d{1,2}(?:,\d{2}){1,20},\d{3}(?!\d)(?:\.\d+)?"      # 1,00,000
             r"|\d{1,3}(?:[ '_]\d{3}){1,40}(?!\d)(?:\.\d+|,\d{1,2}(?![\d,]))?"
             r"|\d{1,3}(?:\.\d{3}){1,40},\d{1,2}(?![\d,])"          # 1.000,50
             r"|\d{1,3}(?:\.\d{3}){2,40}(?![\d.])"
             r"|\d+(?:\.\d+)?|(?<![\w.)])\.\d+)")
_NUMBER = re.compile(
    # a minus after a digit, a letter, a bracket or a minus is none
    r"(?P<sign>(?<![\w)\].}-])[-+])?(?:\$ ?(?P<sign2>[-+] ?)?)?"
    rf"(?P<whole>{_UNSIGNED})"
    r"(?:[eE](?P<scale>[-+]?\d+)(?!\w|\.\d)"
    r"| ?[xX*×] ?10 ?(?:\^|\*\*) ?\(?(?P<times_scale>[-+]?\d+)\)?"
    r"|(?: ?\^ ?|\*\*| \*\* )\(?(?P<power>[-+]?\d+)\)?)?"
    rf"(?: ?/ ?(?P<below>-?{_UNSIGNED})| (?P<part>\d+) ?/ ?(?P<part_below>\d+))?")
_EUROPEAN = re.compile(r"\d{1,3}(?:[. '_]\d{3})+,\d+")
_LEADING_SIGN = re.compile(r"^([ $(*]*)(?:([-+]) +|[—―] ?)(?=\$?\.?\d)")
_REMARK = re.compile(r"(?<=[\w%$] )\(([^()]*)\)")
_NO_NUMBER = re.compile(r"\\(?:sqrt|pi|log|ln|sin|cos|tan|pm|mp|infty|[lg]eq?|neq?|lt|gt)(?![a-zA-Z])"
                        r"|[√π∞±∓≤≥≠<>]|!=")
_ASSIGNED = re.compile(r"(?:^|[,;]|\band\b) ?([A-Za-z]\w*) ?=")
_OPERATOR_BEFORE = re.compile(r"[/^×÷] ?[($]*$|\w\*$|\w [*+] $|\b[A-Za-z] ?[-+] ?\$? ?$")
_OPERATOR_AFTER = re.compile(r"\)? ?(?:[+×÷^] ?[\w(]|[*/] ?(?:[A-Za-z]\b|\()|- ?[xyzn]\b)")
_LISTED = re.compile(r"(?:[,;&/+*×÷^|]|\b(?:and|or|to|of|by|times|plus|minus|over|x|versus|vs))[\s$(]*$",
                     re.IGNORECASE)
_APART = re.compile(r"\w[^\w]+\w|[(,;.:-] ?[A-Za-z]")


def last_number(text: str) -> Fraction | None:
    """Returns the value of the last number of a text that has one; a per cent sign does not change it."""
    values = map(_value, reversed(list(_NUMBER.finditer(plain(text)))))
    return next((value for value in values if value is not None), None)


def parse_number(text: str) -> Fraction | None:
    """Returns the value of a text that is one number with nothing but a currency, a sign or brackets before
    it, and a unit after it."""
    text = _LEADING_SIGN.sub(_attached, plain(text).strip())
    numbers = list(_NUMBER.finditer(text))
    if len(numbers) != 1 or re.search(r"[^\s$(]", text[:numbers[0].start()]):
        return None
    return None if _OPERATOR_AFTER.match(text, numbers[0].end()) else _value(numbers[0])


def stated_number(line: str) -> Fraction | None:
    """Returns the single number that a line states, as the content of a box does: among words or not, and of
    an equation the right side. Where further numbers follow in words of their own, as in "42 clips in 2
    days", the first counts; None for a list, a formula or no number."""
    text = _LEADING_SIGN.sub(_attached, plain(line).strip())
    if _NO_NUMBER.search(text) or len(set(_ASSIGNED.findall(text))) > 1:
        return None
    text = _right_side(_without_remarks(text))
    numbers = list(_NUMBER.finditer(text))
    if not numbers or _in_formula(text, numbers[0]):
        return None
    if len(numbers) > 1 and not _said_apart(text[numbers[0].end():numbers[1].start()]):
        return None
    return _value(numbers[0])


def _in_formula(text: str, number: re.Match[str]) -> bool:
    """Whether an operator ties a number to something that is none, as in x / 2."""
    before = text[:number.start("whole")]
    return bool(_OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(text, number.end()))


def _said_apart(between: str) -> bool:
    """Whether what stands between two numbers makes the second a thing of its own."""
    return bool(_APART.search(between)) and not _LISTED.search(between)


def _without_remarks(text: str) -> str:
    """Without the words in brackets behind a number, as in 42 (since 6 * 7 = 42)."""
    rest = _REMARK.sub(lambda match: "" if re.search("[A-Za-z=]", match[1]) else match[0], text)
    return rest if re.search(r"\d", rest) else text


def _attached(match: re.Match[str]) -> str:
    """A sign at the beginning, put to its number; a long dash is one only there."""
    return match[1] + (match[2] or "-")


def _right_side(text: str) -> str:
    """What stands behind the last equals sign with a digit behind it: of 6 * 7 = 42 and of 42 = x, 42."""
    sides = [side for side in text.split("=") if re.search(r"\d", side)]
    return sides[-1].strip() if sides else ""


def _value(match: re.Match[str]) -> Fraction | None:
    """A matched number's value, or None where it has none (division by zero, more digits than are read)."""
    try:
        value = _exact(match["whole"])
        scale = match["scale"] or match["times_scale"]
        if scale:
            value *= Fraction(10)**_bounded(scale, _EXPONENT)
        if match["power"]:
            value = _raised(value, match["power"])
        if match["below"]:
            value /= _exact(match["below"])
        if match["part"]:
            value += _exact(match["part"]) / _exact(match["part_below"])
    except (OverflowError, ZeroDivisionError):
        return None
    negative = (match["sign"] == "-") != ((match["sign2"] or "").strip() == "-")
    return -value if negative else value


def _exact(digits: str) -> Fraction:
    if len(digits) > _DIGITS:
        raise OverflowError
    if _EUROPEAN.fullmatch(digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    return Fraction(re.sub("[,' _]", "", digits))


def _bounded(digits: str, most: int) -> int:
    if len(digits) > _DIGITS or abs(int(digits)) > most:
        raise OverflowError
    return int(digits)


def _raised(base: Fraction, power: str) -> Fraction:
    exponent = _bounded(power, _EXPONENT * 4)
    if (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent) > 4 * _DIGITS:
        raise OverflowError
    return base**exponent
