r"""Numbers' many spellings made one: Unicode's digits, signs and spaces, HTML, emphasis, and LaTeX."""
import functools
import html
import re
import unicodedata
from collections.abc import Callable

_DASHES = "\u2010\u2011\u2012\u2013\u207b\u2212\u2796\ufe63"  # what is written for a minus; no long dash is
_SAME = str.maketrans({
    **dict.fromkeys(_DASHES, "-"), **dict.fromkeys("·⋅∙✕✖⨉", "×"), **dict.fromkeys("≈≃≅≡→⇒⟹➜", "="),
    **dict.fromkeys("⁄∕", "/"), **dict.fromkeys("’‘ʼ", "'"), "∗": "*", "٫": ".", "٬": ",", "°": " "})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_ODD = re.compile(r"[^\x00-\x7f]")

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _rules(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> tuple[_Rule, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


def _fraction(match: re.Match[str]) -> str:
    """Numerator and denominator, each in braces or a bare digit."""
    above, below = (part if part is not None else bare
                    for part, bare in ((match[1], match[2]), (match[3], match[4])))
    return f"{above}/{below} "


# Each rule is linear: what it repeats without bound cannot be begun again inside what it repeats over.
_WRAPPER = _rules(
    (r"\\(?:text[a-z]*|math(?:rm|bf|it|sf|tt|normal|bb)|mbox|hbox|operatorname|boldsymbol|bm|num|underline"
     r"|overline|emph) ?{([^{}]*)}", r" \1 "))
_NESTED = 4  # wrappers within wrappers that are opened
_LATEX = _rules(
    (r"(?<=\d) ?(?=\\(?:[dtcs]|nice)?frac)", " "),
    (r"\\(?:[dtcs]|nice)?frac ?(?:{([^{}]*)}|(\d)) ?(?:{([^{}]*)}|(\d))", _fraction),
    (r" ?\\over\b ?", "/"),
    (r"\^ ?(?:{ ?\\circ ?}|\\circ\b)|\\degree\b", " "),
    (r"\^ ?{([^{}]*)}", r"^\1"),
    (r"\{,\}", ","),
    (r", ?\\[!,](?=\d{3})|,\\!", ","),
    (r"\\(?:[,;:! ]|q?quad\b|(?:thin|med|thick)space\b|left\b|right\b|[bB]igg?[lr]?\b|displaystyle\b)|~",
     " "),
    (r"\\(?:cdot|times|ast)(?![a-zA-Z])", "×"),
    (r"\\(?:approx|simeq|equiv|implies|to|(?:long)?rightarrow|(?:Long)?[Rr]ightarrow)(?![a-zA-Z])", "="),
    (r"\\(?:pounds|euro|yen|(?:text)?dollar)(?![a-zA-Z])", "$"),
    (r"\\([$%#&_()\[\]])", r"\1"),
    (r"[{}]", " "))
_SIGNS = _rules(
    (r"[-=]>|==", "="),
    (r"(?<![\w)\].-])-\((\$?[\d.,]+)\)", r"-\1"),                # -(5)
    (r"(?:(?<=[=:(])|(?<=[=:(] ))- (?=\$?\.?\d)", "-"),          # x = - 5
    (r"(?<=[A-Za-z]) ?\^ ?\(?-?\d+\)?", ""),                     # the 2 of m^2
    (r"(?<![A-Za-z])([mcdk]?m|ft|in|yd|mi)[23]\b", r"\1"),       # and of m2
    # emphasis, and no 6 * 7, x*5 or 10**3
    (r"(?<![\d)\]} *])(?<!\b[a-zA-Z])\*+|\*+(?!\*| ?[\d(+.$-])|__+", ""))
_MARKUP = _rules(
    (r"[ \t\r\f\v]+", " "),
    (r"<<[^<>\n]*>>", " "),  # GSM8K's calculator
    (r"</?[a-zA-Z][^<>]{0,40}>", " "),
    (r"(?<!\\)\\{2,}(?=[A-Za-z$%,!])", r"\\"))
_SPACES = _rules((r" {2,}", " "))


def plain(text: str) -> str:
    r"""Returns text in which numbers are written in ASCII, without LaTeX (\frac, \text, \$, thin spaces),
    HTML, emphasis and the powers of units; every currency is $, approximations and arrows are =."""
    text = _ascii(html.unescape(text))
    text = _apply(_MARKUP, text)
    for _ in range(_NESTED):
        text = _apply(_WRAPPER, text)
    return _apply(_SPACES, _apply(_SIGNS, _apply(_SPACES, _apply(_LATEX, text))))


def _apply(rules: tuple[_Rule, ...], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _ascii(text: str) -> str:
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻]+", lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    return _ODD.sub(lambda match: _plain_character(match[0]), text.translate(_SAME))


@functools.lru_cache(4096)
def _plain_character(character: str) -> str:
    """A character beyond ASCII as it counts in a number; itself, if it does not."""
    kind = unicodedata.category(character)
    compatible = unicodedata.normalize("NFKC", character)
    if kind == "Nd":
        return str(unicodedata.decimal(character))
    if kind == "Sc":
        return "$"
    if kind in ("Zs", "Cf") or character in "\ufe0e\ufe0f\u20e3":  # the last three make a digit a picture
        return " " if kind == "Zs" else ""
    if kind == "No" and "⁄" in compatible:  # a half
        return " " + compatible.replace("⁄", "/") + " "
    return compatible if len(compatible) == 1 and compatible.isascii() and kind[0] in "PS" else character
