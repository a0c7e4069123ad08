"""What a scorer of reasoning-gym may be given of what a policy wrote.

Nine of its scorers hand the answer to Python's eval, or to sympy's parse_expr, which evaluates it too. Theirs
must be literals or formulas of arithmetic, which are small enough to be worked out. Beside that an audit hook
refuses whatever would run, load or write while any answer is scored.
"""
import ast
import contextlib
import math
import re
import signal
import sys
from collections.abc import Iterator

LITERALS = ("string_insertion", "spiral_matrix", "binary_matrix", "n_queens")
FORMULAS = ("simple_integration", "intermediate_integration", "polynomial_multiplication", "puzzle24",
            "countdown")
OWN = ("bitwise_arithmetic", "number_sorting")  # they evaluate what their puzzle says, and not the answer
FRACTIONS = ("coin_flip",)  # read by fractions.Fraction, which works 1e999999999 out
LONGEST = 20_000            # characters of an answer
_LONGEST_CODE = 2_000       # of one that is evaluated
_FUNCTIONS = ("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp",
              "log", "ln", "sqrt", "Abs")
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_SIGNS = (ast.UAdd, ast.USub)
_NAME = re.compile(r"[A-Za-z]|pi|alpha|beta|gamma|theta")
_LARGEST = 1e15             # of a number in a formula
_MOST_EXPONENT = 20
_MOST_DEGREE = 64
_RUNNING = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen",
            "socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "os.remove", "os.rename",
            "os.rmdir", "shutil.rmtree")


class Late(BaseException):
    """Scoring takes too long. Not an Exception, which scorers take for a wrong answer and go on."""


def harmless(dataset: str, answer: str) -> bool:
    """Whether a scorer may be given this answer."""
    if len(answer) > LONGEST:
        return False
    if dataset in LITERALS:
        return _is_not_code(answer) or _parsed(answer, _is_literal)
    if dataset in FORMULAS:
        return _parsed(answer, lambda node: _is_formula(node) and _degree(node) <= _MOST_DEGREE)
    if dataset in FRACTIONS:
        return not re.search(r"[eE][+-]?[0-9_]{4,}", answer)
    return True


def _is_not_code(answer: str) -> bool:
    """Whether Python cannot evaluate it, as a row of letters or a board."""
    try:
        ast.parse(answer.strip(), mode="eval")
    except SyntaxError:
        return True
    except (ValueError, MemoryError, RecursionError):
        return False
    return False


def _parsed(answer: str, check) -> bool:
    """Whether it is Python's, short, and passes a check."""
    if len(answer) > _LONGEST_CODE:
        return False
    try:
        return check(ast.parse(answer.strip(), mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return False


def _is_literal(node: ast.expr) -> bool:
    """Numbers and texts, in lists and tuples or bare."""
    if isinstance(node, ast.List | ast.Tuple):
        return all(map(_is_literal, node.elts))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, _SIGNS) and isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Constant | ast.Name)  # of a name there is nothing but what it stands for


def _is_formula(node: ast.expr) -> bool:
    """Numbers and letters, put together by arithmetic and the elementary functions."""
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float) and abs(node.value) <= _LARGEST
    if isinstance(node, ast.Name):
        return bool(_NAME.fullmatch(node.id))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, _SIGNS) and _is_formula(node.operand)
    if isinstance(node, ast.Call):
        return (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
                and len(node.args) == 1 and _is_formula(node.args[0]))
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, _OPERATORS):
        return False
    return _is_formula(node.left) and _is_formula(node.right) and (
        not isinstance(node.op, ast.Pow) or _is_small_power(node))


def _is_small_power(node: ast.BinOp) -> bool:
    """Whether sympy works it out at once: the exponent is a small number, or a formula without powers."""
    exponent = _number(node.right)
    holds_powers = any(isinstance(each, ast.Pow) for each in ast.walk(node.right))
    return not holds_powers and (exponent is None or exponent <= _MOST_EXPONENT)


def _degree(node: ast.AST) -> float:
    """How large a formula can become when it is multiplied out."""
    inner = [_degree(child) for child in ast.iter_child_nodes(node)]
    if not isinstance(node, ast.BinOp):
        return max(inner, default=1)
    if isinstance(node.op, ast.Pow):
        return _degree(node.left) * max(_number(node.right) or 1, 1)
    return sum((_degree(node.left), _degree(node.right))) if isinstance(node.op, ast.Mult) else max(inner)


def _number(node: ast.expr) -> float | None:
    """The value of a formula without letters; None: it has some. Too large ones are endless."""
    if isinstance(node, ast.Constant):
        return float(node.value)
    if isinstance(node, ast.UnaryOp):
        value = _number(node.operand)
        return None if value is None else abs(value)
    if isinstance(node, ast.BinOp):
        sides = [_number(node.left), _number(node.right)]
        if None in sides:
            return None
        return max(*map(abs, sides)) if isinstance(node.op, ast.Div) else _grown(node.op, *map(abs, sides))
    return None


def _grown(operator: ast.operator, left: float, right: float) -> float:
    """A bound of what an operator makes of two numbers."""
    try:
        return left * right if isinstance(operator, ast.Mult) else left + right
    except OverflowError:
        return math.inf


class Guard:
    """While it is on, nothing is run, loaded or written in this process, and nothing takes long."""

    def __init__(self) -> None:
        self._on = False
        self._evaluates = False
        self.tripped = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple) -> None:
        if self._on and self._forbidden(event, arguments):
            self.tripped = True
            raise PermissionError(f"{event} while an answer is scored")

    def _forbidden(self, event: str, arguments: tuple) -> bool:
        if event == "open":
            mode = arguments[1]
            return isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if event == "compile":
            return not self._evaluates and arguments[1] in ("<string>", b"<string>")
        return event in _RUNNING

    @contextlib.contextmanager
    def watching(self, evaluates: bool, seconds: float) -> Iterator[None]:
        """Within it, an answer is scored.

        Args:
          evaluates: whether the scorer hands the answer to eval, having been given a harmless one.
          seconds: that it may take.

        Raises:
          Late: it takes longer.
        """
        self._evaluates = evaluates
        self.tripped = False
        before = signal.signal(signal.SIGALRM, _late)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        self._on = True
        try:
            yield
        finally:
            self._on = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: object) -> None:
    raise Late
