"""What scorers of reasoning-gym may be given of what a policy wrote."""
import subprocess
import sys
import time

import pytest

from jaxrl_moe.envs.adapters.task import WORKERS
from tests.helpers.adapters import harmless_module

CODE = ["__import__('os').system('touch pwned')", "open('pwned', 'w')", "[x for x in (1, 2)]",
        "(lambda: 1)()", "(1).__class__", "print(1)", "f'{1}'", "exec('1')", "[open('pwned')]",
        "x if 1 else 2", "a[0]", "1 and 2"]


harmless = harmless_module()


@pytest.mark.parametrize("dataset", harmless.LITERALS + harmless.FORMULAS)
@pytest.mark.parametrize("answer", CODE)
def test_code_reaches_no_scorer_that_evaluates(dataset, answer):
    assert not harmless.harmless(dataset, answer)
    assert not harmless.harmless(dataset, f"  {answer}\n")


LARGE = ["9**9**9**9", "2**1000", "(10**15)**20**2", "((x+1)**20)**20", "2**-1000", "1e999",
         "(x+y)**20*(x-y)**20*(y+z)**20*(y-z)**20", "9" * 3000, "(" * 500 + ")" * 500, "1" + "0" * 20]
STRANGE = ["factorial(10)", "sin(x, 2)", "sin(x=2)", "'a'*9", "x.y", "__x", "1//2", "x < 2", "5!", "", "1;2"]


@pytest.mark.parametrize("answer", LARGE + STRANGE)
def test_formulas_are_short_small_and_of_arithmetic_alone(answer):
    assert not harmless.harmless("countdown", answer)


@pytest.mark.parametrize("answer", [
    "3*(4+5)-6/2", "x**3/3 + C", "-2*x*sin(3*x)/3 + exp(2*x)*cos(x)", "64*x**9 - 2.5", "(x**2 + 1)**3", " 7 ",
    "log(Abs(x)) + pi", "(x + 1)**4", "2**x"])
def test_formulas_that_can_be_right_pass(answer):
    assert harmless.harmless("simple_integration", answer)


@pytest.mark.parametrize("answer", ["[[1, 0], [0, -1]]", "1 2 3 4", "ABBCD", "['A', 'B']", "_ Q _\nQ _ _", "",
                                    "0 1\n1 0", "it was import"])
def test_literals_and_plain_boards_pass(answer):
    assert harmless.harmless("binary_matrix", answer)


def test_numbers_that_take_for_ever_to_write_out_are_not_read():
    assert harmless.harmless("coin_flip", "3/8") and harmless.harmless("coin_flip", "1e-3")
    assert not harmless.harmless("coin_flip", "1e999999999")
    assert not harmless.harmless("caesar_cipher", "a" * (harmless.LONGEST + 1))


GUARDED = """
import sys
sys.path.append({folder!r})
from adapter_harmless import Guard, Late
guard = Guard()
try:
    with guard.watching({evaluates}, 0.5):
        {code}
except Late:
    print("late")
except PermissionError:
    print("refused")
print(guard.tripped)
eval("1")
"""


@pytest.mark.parametrize("code, evaluates, said", [
    ("eval('1')", False, ["refused", "True"]), ("eval('1')", True, ["False"]),
    ("__import__('os').system('true')", True, ["refused", "True"]),
    ("open('/tmp/x', 'w')", False, ["refused", "True"]), ("open('/dev/null').read()", False, ["False"]),
    ("__import__('subprocess').run(['true'])", True, ["refused", "True"]),
    ("while True: pass", False, ["late", "False"]),
    ("__import__('time').sleep(60)", False, ["late", "False"])])
def test_while_an_answer_is_scored_nothing_is_run_or_written_and_nothing_takes_long(code, evaluates, said):
    began = time.monotonic()
    script = GUARDED.format(folder=str(WORKERS), code=code, evaluates=evaluates)
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == said and time.monotonic() - began < 30
