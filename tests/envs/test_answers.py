r"""The number that a completion gives as its answer: a table of what models write, much of it from bug
reports of other graders. None: no answer."""
import random
import time
from fractions import Fraction

import pytest

from jaxrl_moe.envs.answers import answer_part, final_number
from jaxrl_moe.envs.numbers import parse_number
from jaxrl_moe.envs.plain_text import plain

THINKING = {
    r"<think>Perhaps \boxed{12}. No: 13.</think>The answer is 13.": 13,
    r"\boxed{12}</think>It is 13.": 13,  # the prompt's template opened the thinking
    r"<think>\boxed{12}</think><think>\boxed{14}</think>#### 15": 15,
    r"<THINK>12</THINK>\boxed{13}": 13,
    r"<thinking>\boxed{12}</thinking>13": 13,
    r"[THINK]\boxed{12}[/THINK]13": 13,
    r"<think>\boxed{12}": None,
    r"<think>12</think>": None,
    r"<think>12</think>So \boxed{13}. <think>Or 14": 13,
    r"The answer is 5. <think>Is it \boxed{6}": 5,
    "I think it is <b>7</b>": 7,
}
# The content of a box, and what stands behind the other two markers, mean the same.
LINES = {
    "42": 42, "-42": -42, "- 5": -5, "– 5": -5, "+5": 5, "+ 5": 5, "-.5": -0.5, ".5": 0.5, "5.": 5, "42.": 42,
    "(5)": 5, "-(5)": -5, "[42]": 42, "042": 42, "0": 0, "-0": 0,
    # dashes
    "\u22125": -5, "\u20115": -5, "\u20105": -5, "\u20125": -5, "\u20135": -5, "\uff0d5": -5, "\ufe635": -5,
    "\u20145": -5, "\u2212 5": -5, "x = \u22125": -5, "-$5": -5, "$-5": -5, "$ - 5": -5, "−$5": -5,
    # digits and what nobody sees
    "４２": 42, "－１，２３４．５％": -1234.5, "＄４２": 42, "٤٢": 42, "१२": 12, "٣٫٥": 3.5, "𝟒𝟐": 42,
    "42\u200b": 42, "\u200e-5": -5, "\ufeff42": 42, "4\ufe0f\u20e32\ufe0f\u20e3": 42, "1\u00ad000": 1000,
    # thousands
    "1,234": 1234, "1 000": 1000, "1\u00a0000": 1000, "1\u2009000": 1000, "1\u202f000": 1000,
    "1\u2007000": 1000,
    "12 345 678": 12345678, "1'000": 1000, "1’000": 1000, "1_000": 1000, "1,00,000": 100000,
    "12,34,567.5": 1234567.5, "1.000.000": 1000000, "1.000,50": 1000.5, "1 000,50": 1000.5, "1.000": 1,
    r"1{,}234": 1234, r"1,\!234": 1234, r"1\,234": 1234, r"1\ 234": 1234, r"1~234": 1234, r"1\;234": 1234,
    r"12{,}345{,}678": 12345678, "1&nbsp;000": 1000, "&minus;5": -5, "100000000000000001": 10**17 + 1,
    # powers
    "10^3": 1000, "10^{3}": 1000, "10**3": 1000, "2^10": 1024, "10³": 1000, "10⁻²": 0.01, "2 × 10^3": 2000,
    "2 x 10**3": 2000, "1.5E+03": 1500, "1e3": 1000, r"3\cdot10^{2}": 300, "2·10³": 2000, "-2^2": -4,
    # fractions
    "1/2": 0.5, r"\dfrac{1}{2}": 0.5, r"\tfrac12": 0.5, r"\frac1{2}": 0.5, r"-\frac{1}{2}": -0.5, "½": 0.5,
    "1½": 1.5, "1 1/2": 1.5, r"1\frac{1}{2}": 1.5, "1⁄2": 0.5, r"\frac{\text{3}}{4}": 0.75,
    r"{3 \over 4}": 0.75,
    r"\frac{1,000}{4}": 250, r"\frac{1}{-2}": -0.5,
    # currency, per cent, units
    "$42": 42, r"\$42": 42, "$42$": 42, "$42.00": 42, "€42": 42, "42€": 42, "£1,080": 1080,
    "₹1,00,000": 100000,
    "USD 42": 42, "US$42": 42, "Rs. 500": 500, "42%": 42, r"42\%": 42, "42 dollars": 42, "42°": 42,
    r"42^\circ": 42, r"42\text{ cm}^2": 42, r"42\,\text{cm}^2": 42, "42 cm2": 42, "42 m²": 42, "42 km/h": 42,
    r"42\text{ km}/\text{h}": 42, r"\text{42}": 42, r"\text{42 apples}": 42, r"42\text{ apples}": 42,
    r"\textbf{\text{42}}": 42, r"\mathbf{42}": 42, r"\mathrm{42\,kg}": 42, "42nd": 42, "17x": 17,
    # around it
    "{42}": 42, "**42**": 42, "*42*": 42, "__42__": 42, "`42`": 42, r"\(42\)": 42, r"\left(42\right)": 42,
    "<b>42</b>": 42, '"42"': 42, "42!": 42, "there are 7": 7, "42 apples in total": 42, "≈ 42": 42,
    r"\approx 42": 42, "~42": 42, "\\\\text{42}": 42,
    # equations
    "x = 42": 42, "x=-42": -42, "6 * 7 = 42": 42, r"6 \times 7 = 42": 42, "42 = x": 42, "3 + 4 = 7 apples": 7,
    "6*7=<<6*7=42>>42": 42, "3 -> 4": 4, "6 * 7 = 42 (eggs)": 42, "42 (since 6 * 7 = 42)": 42, "x = - 5": -5,
    # a number, and more said in words
    "42 clips in 2 days": 42, "$18 every day at 9 am": 18, "18 dollars (9 eggs at $2)": 18,
    "42. I used 3 steps.": 42, "42, since she has 6 rows of 7": 42,
    # no single number
    "3, 4": None, "1,2,3": None, "3 or 4": None, "3 and 4": None, "3;4": None, "3:30": None, "3-4": None,
    "3:4": None,
    "3 apples and 4 pears": None, "3 apples, 4 pears": None, "2 hours 30 minutes": None, "12 + 30": None,
    "6 * 7": None, "6 × 7": None, r"6 \cdot 7": None, "20% of 50": None, "3 out of 5": None, "3,50": None,
    "x = 3, y = 4": None, "x/2": None, r"\frac{x}{2}": None, "2x + 3": None, "x - 5": None, "5 + x": None,
    "x*5": None, r"\frac{5}{x}": None, r"\sqrt{16}": None, r"3\sqrt{2}": None, r"2\pi": None, "π": None,
    r"\pm 3": None, "±3": None, "x > 3": None, r"x \geq 3": None, "1/0": None, "1e999": None, "9^9999": None,
    "forty-two": None, "none": None, "x": None, "∞": None, "1.2.3": None, "1/2/2020": None, "12 34": None,
    "(3, 4)": None, r"\{3, 4\}": None, "0^-1": None,
}
MARKERS = {
    r"\boxed{1}, no, \boxed{2}": 2,
    r"\boxed{\boxed{42}}": 42,
    r"\fbox{42} of 50": 42,
    r"\boxed 42": 42,
    r"$\boxed 42$ of 50": 42,
    r"\boxed {42} of 50": 42,
    "\\boxed\n{42} of 50": 42,
    r"\\boxed{42} of 50": 42,
    r"\boxed{42": 42,
    r"\boxed{" + "so many words " * 30 + "42}, and 3": 42,
    r"\boxed{\begin{aligned}42\end{aligned}} 3": 42,
    r"\boxed{}, so 6": None,
    r"\boxed{\text{none}} Final Answer: 6": None,
    r"\boxed{3, 4} and 5": None,
    r"\boxed{12} or rather \boxed{}": None,
    "#### 6 * 7 = 42": 42,
    "#### $6 * 7 = 42$": 42,
    "#### 42 or 43\n44": None,
    "#### 1\n#### 2": 2,
    "She has 42.\n####": None,
    "####\n42\nin 3 days": 42,
    "####42\n3": 42,
    "#### **42**\n3": 42,
    "#### The answer is 42\n3": 42,
    "#### Answer: 42\n3": 42,
    "#### Total = 42\n3": 42,
    "#### Step 1: add\n3 + 4 = 7": 7,
    "#### Step 2: 5 * 6 = 30\nIt is 42": 42,
    "#### 1. Count the apples\nIt is 42": 42,
    "#### Conclusion\nIt is 42": 42,
    "##########\n42 in all": 42,
    "##### 42": 42,
    "Final Answer: 42\nin 3 days": 42,
    "**Final Answer:** 42\n3": 42,
    "**Final Answer**: 42\n3": 42,
    r"\textbf{Final Answer:} 42" + "\n3": 42,
    "### Final Answer\n\n42 apples\n3": 42,
    "**Final Answer**\n\n$42$\n3": 42,
    "Final Answer:\n- 5 apples\n3": 5,
    "Final Answer: - 5\n3": -5,
    "Final Answer:\n\\[\n42\n\\]\n3": 42,
    "Final answer (in dollars): 42\n3": 42,
    "FINAL ANSWER : 42\n3": 42,
    "Final Answer：42\n3": 42,
    "Final Answer: The final answer is $42$. I hope it is correct.": 42,
    "The final answer is 42, but 3 are left.": 42,
    "Final Answer: 42. I hope the final answer is right.\n3": 42,
    "The final answer is: 3 or 4\n5": None,
    "Final Answer: it depends\n42": None,
    "Final Answer:": None,
    "I look for the final answer. 3 + 4 = 7": 7,
    "To get the final answer\nwe add 3 and 4: 7": 7,
    "Final Answer: 13\n#### 14": 13,
}
LAST = {
    "She has 4 and 5, so 9.": 9,
    "It is 20 - 5": 5,
    "It is 20-5": 5,
    "x = - 5": -5,
    "It is -5.": -5,
    "It is **42**.": 42,
    "It is $1,234.50.": 1234.5,
    "It is $1,234.": 1234,
    "The area is 5 m^2.": 5,
    "The area is 5 m².": 5,
    "The area is 5 cm2": 5,
    "It is 5 000.": 5000,
    "It is 1\u202f000 €": 1000,
    "Then...5": 5,
    "It is 10^3.": 1000,
    "It is 1/2.": 0.5,
    "<answer>42</answer>": 42,
    "First 5\n1/2 of it": 0.5,
    "Therefore, 4️⃣2️⃣": 42,
    "42\n\n": 42,
    "I do not know": None,
}


@pytest.mark.parametrize("text", THINKING)
def test_what_is_thought_is_no_answer(text):
    assert final_number(answer_part(text)) == THINKING[text]


BEHIND = {"box": "3 \\boxed{%s} 3", "final": "3 Final Answer: %s\n3", "hashes": "3 #### %s\n3"}


def is_heading(line):
    return len(line) > 1 and line[:2].isalpha() or line.startswith("42. ")


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("marker", BEHIND)
def test_the_three_markers_read_a_line_alike_but_for_headings(line, marker):
    wanted = 3 if marker == "hashes" and is_heading(line) else LINES[line]
    assert final_number(BEHIND[marker].replace("%s", line)) == (
        None if wanted is None else Fraction(str(wanted)))


@pytest.mark.parametrize("text", MARKERS)
def test_the_last_marker_decides_alone(text):
    assert final_number(text) == MARKERS[text]


@pytest.mark.parametrize("text", LAST)
def test_without_a_marker_the_last_number_counts(text):
    assert final_number(text) == LAST[text]


def test_every_character_that_python_calls_a_digit_is_one():
    digits = [chr(code) for code in range(0x110000) if chr(code).isdecimal()]
    assert len(digits) > 600 and {parse_number(digit) for digit in digits} == set(range(10))
    assert all(plain(digit) == str(int(digit)) for digit in digits)


@pytest.mark.parametrize("text", ["", "none", "1 and 2", "about 3", "1/0", "3, 4", "5 + x", "nan", "inf",
                         "9" * 401])
def test_a_text_that_is_not_one_number_has_no_value(text):
    assert parse_number(text) is None


PIECES = ["9", "1,", "1,000,", "11,", "1.000.", "1 000 ", "1 ", ",", ".", "$", "-", "{", "}", "(", "(a",
          "*", "**", "_",
          " ", "\n", "=", "####", "#### ", "####\n", "# ", "\\boxed{", "\\boxed", "\\frac{", "\\frac1",
          "\\text{",
          "\\text", "final answer", "final answer is ", "Final Answer:", "Final Answer (", "10^", "1e",
          "1e9", "10**", "2^{", "^{",
          "1/", "1 1/", "-(", "-(1", "x=", "x = 1, ", "<", "<<", "<a", "<think>", "</think>", "\\", "&",
          "&#", "and ", "½", "³",
          "\u202f", "answer", "final "]


MARKED = ["", "\\boxed{", "Final Answer: ", "#### "]


def seconds(marker, piece, size):
    text = marker + (piece * (size // len(piece) + 1))[:size] + "x"
    start = time.process_time()
    final_number(answer_part(text))
    return time.process_time() - start


@pytest.mark.parametrize("marker", MARKED)
def test_long_runs_of_anything_are_graded_at_once(marker):
    """What takes quadratic time takes a minute for some of these; all together take a second."""
    assert sum(seconds(marker, piece, 10_000) for piece in PIECES) < 20
    assert sum(seconds(marker, piece, 100_000) for piece in ("9", "1,", "1,000,", "1 ", " ", "{", "}",
    "\\")) < 20


@pytest.mark.slow
@pytest.mark.parametrize("marker", MARKED)
def test_a_hundred_kilobytes_of_anything_are_graded_at_once(marker):
    random.seed(0)
    pairs = [random.choice(PIECES) + random.choice(PIECES) for _ in range(40)]
    assert max(seconds(marker, piece, 100_000) for piece in [*PIECES, *pairs]) < 5
