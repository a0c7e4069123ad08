"""Tasks by name, with their settings; tasks that stand outside the package."""
import dataclasses
import pathlib
import sys
import typing
from typing import ClassVar

import pytest

from jaxrl_moe.config import ConfigError
from jaxrl_moe.envs import TASKS, check_rows, make_task, register
from jaxrl_moe.envs.gsm8k import Gsm8k
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.protocols import Task
from jaxrl_moe.types import Action, Prompt, Step, UserError

ROW = {"answer": "#### 1234"}
OWN = '''
import dataclasses
from typing import Any, Literal
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.types import Step

@dataclasses.dataclass
class Lengths(SingleTurnTask):
    unit: "float" = 1.0
    name: str | None = None

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        return Step(action.num_tokens / self.unit)

def made(limit: int):
    return Lengths(limit)

three = 3

class Bare(SingleTurnTask):
    unit: float = 1.0

    def check_row(self, row, index):
        pass

class Whole(Bare):
    unit: float = 1.0
    grade = Lengths.grade

class Other:
    """A class, and no task."""

def other():
    return Other()

def broken(limit: int = 0):
    raise KeyError("limit")

@dataclasses.dataclass
class Typed(Lengths):
    words: tuple[str, ...] = ()
    pair: tuple[int, float] = (0, 0.0)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    level: Literal[1, "high"] = 1
    free: Any = None

def unresolved(limit: "Nowhere" = 0):
    return Lengths(limit)

@dataclasses.dataclass
class Half(Lengths):
    grade = SingleTurnTask.grade
    check_row = SingleTurnTask.check_row
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package that this one knows nothing of."""
    folder = tmp_path / "own_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_package.tasks"
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        sys.modules.pop(name)


def test_settings_in_brackets_reach_the_task_that_has_them():
    assert make_task("gsm8k") == Gsm8k() and make_task(" gsm8k( ) ") == Gsm8k()
    assert make_task("gsm8k(overlong_tokens=20)") == Gsm8k(overlong_tokens=20)
    assert make_task("gsm8k(binary=true)") == make_task("gsm8k(binary=True)") == Gsm8k(binary=True)
    assert make_task("word_problems").lowest_reward == 0


def test_zero_and_false_are_values():
    assert make_task("gsm8k(overlong_tokens=0, binary=false)") == Gsm8k()
    assert make_task("gsm8k(overlong_tokens=0)").grade(ROW, Action("#### 1234", 100_000, False)).info[
        "overlong"] == 0
    with pytest.raises(ConfigError, match="'word_problems' has no setting 'overlong_tokens'.* Its settings: "
                                          "none"):
        make_task("word_problems(overlong_tokens=0)")


@pytest.mark.parametrize(
    "spec, reason",
    [("", "env.name = '' is not known"),
     ("gsm8", "env.name = 'gsm8' is not known. Did you mean 'gsm8k'"),
     ("gsm8k(binry=true)", "'gsm8k' has no setting 'binry'. Did you mean 'binary'.* overlong_tokens, binary"),
     ("gsm8k(binary=1)", "binary = 1 must be of type bool"),
     ("gsm8k(overlong_tokens=true)", "overlong_tokens = True must be of type int"),
     ("gsm8k(overlong_tokens=1.5)", "overlong_tokens = 1.5 must be of type int"),
     ("gsm8k(overlong_tokens='2')", "overlong_tokens = '2' must be of type int"),
     ("gsm8k(overlong_tokens=-1)", "overlong_tokens = -1 is out of range: it must be at least 0"),
     ("gsm8k(binary=true, overlong_tokens=3)", "charges nothing"),
     ("gsm8k(binary=true", "cannot be read"),
     ("gsm8k(true)", "cannot be read"),
     ("gsm8k(binary=yes)", "cannot be read"),
     ("gsm8k(binary=true,binary=false)", "cannot be read"),
     ("gsm8k(**{'binary': True})", "cannot be read"),
     ("a task", "cannot be read"),
     ("no_such_package.tasks:Own", "cannot be imported: No module named 'no_such_package'.*Install"),
     (":Own", "cannot be imported"),
     ("..:Own", "cannot be imported"),
     ("jaxrl_moe.envs.gsm8:Gsm8k",
      "No module named 'jaxrl_moe.envs.gsm8'. Did you mean 'jaxrl_moe.envs.gsm8k'"),
     ("jaxrl_mo.envs.gsm8k:Gsm8k", "Did you mean 'jaxrl_moe'"),
     ("jaxrl_moe.envs.gsm8k:Gsm8", "no class or function 'Gsm8' .*Did you mean 'Gsm8k'"),
     ("jaxrl_moe.envs.gsm8k:TOLERANCE", "no class or function 'TOLERANCE'"),
     ("jaxrl_moe.envs.gsm8k.final:Gsm8k", "cannot be imported"),
     ("json:JSONDecoder", "has a class, but no Task, 'JSONDecoder' that makes a task"),
     ("subprocess:Popen(args='ls')", "a class, but no Task"),
     ("builtins:print", "makes None .*which is no Task: inherit from"),
     ("gsm8k(overlong_tokens=1e999)", "overlong_tokens = inf must be finite"),
     ("gsm8k(overlong_tokens=nan)", "cannot be read"),
     ("gsm8k(binary='true')", "binary = 'true' must be of type bool"),
     ("gsm8k(binary=None)", "binary = None must be of type bool"),
     ("gsm8k(binary=[true])", "cannot be read"),
     ("gsm8k(binary=bool(1))", "cannot be read: write settings as name=value, each once, with a number"),
     ("gsm8k(binary=)", "cannot be read"),
     ("gsm8k(binary)", "cannot be read"),
     ("gsm8k binary=true)", "cannot be read"),
     ("gsm8k(binary=true))", "cannot be read"),
     ("gsm8k(binary=true)(binary=true)", "cannot be read"),
     ("gsm8k(binary={[]: 1})", "cannot be read"),
     ("gsm8k(overlong_tokens=" + "-" * 50_000 + "1)", "cannot be read"),
     ("gsm8k(overlong_tokens=" + "(" * 50_000 + "1)", "cannot be read"),
     ("gsm8k(overlong_tokens=" + "9" * 5_000 + ")", "cannot be read"),
     ("gsm8k(overlong_tokens='" + "9" * 100_000 + "')", "must be of type int"),
     (" " * 100_000 + "x y", "cannot be read"),
     ("json:Own", "no class or function 'Own'"),
     ("json:", "no class or function ''")])
def test_what_makes_no_task_is_refused_with_the_reason(spec, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        make_task(spec)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000


@pytest.mark.parametrize("source, reason", [
    ("raise ValueError('two\\nlines')",
     r"cannot be imported: ValueError: two lines \(broken.py, line 1\). Mend the"),
    ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    ("def f(:", "cannot be imported: SyntaxError"),
    ("import no_such_thing", "own_package.broken imports 'no_such_thing', which is not installed"),
    ("from own_package import nothing", "cannot be imported: ImportError: cannot import name 'nothing'"),
    ("1 / 0", "ZeroDivisionError")])
def test_a_module_that_cannot_be_imported_is_told_in_one_paragraph(outside, tmp_path, source, reason):
    (tmp_path / "own_package" / "broken.py").write_text(source)
    for name in ("own_package.broken:Own", "own_package.broken:Own(limit=2)"):
        with pytest.raises(ConfigError, match=reason) as refused:
            make_task(name)
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="is not known. Known"):
        make_task("own_package.broken.Own")


def test_a_misspelt_module_of_another_package_is_known_by_its_neighbours(outside, tmp_path):
    (tmp_path / "bare_folder").mkdir()
    for name, near in (("own_package.task:Lengths", "own_package.tasks"),
                       ("own_packag.tasks:Lengths", "own_package"), ("bare_foldr.tasks:Own", "bare_folder")):
        reason = f"cannot be imported: No module .*Did you mean '{near}'.* PYTHONPATH"
        with pytest.raises(ConfigError, match=reason):
            make_task(name)


@pytest.mark.parametrize("spec, reason", [
    ("other", r"makes <own_package.tasks.Other .* \(Other\), which is no Task"),
    ("Other", "a class, but no Task, 'Other'"),
    ("broken", r"cannot be made with these settings: KeyError: 'limit' \(tasks.py, line \d+\)"),
    ("broken(limit='3')", "limit = '3' must be of type int"),
    ("unresolved(limit=3)", "types of unresolved's settings cannot be read: name 'Nowhere' is not defined"),
    ("Typed(words=('a', 1))", r"words = \('a', 1\) must be of type tuple\[str, ...\]"),
    ("Typed(words='a')", "words = 'a' must be of type tuple"),
    ("Typed(pair=(1,))", r"pair = \(1,\) must be of type tuple\[int, float\]"),
    ("Typed(pair=(1, 1e999))", r"pair = \(1, inf\) must be finite"),
    ("Typed(sizes={'a': true})", "cannot be read"),
    ("Typed(sizes={'a': True})", r"sizes = \{'a': True\} must be of type dict"),
    ("Typed(level=True)", "level = True must be of type typing.Literal"),
    ("Typed(free=-1e999)", "free = -inf must be finite"),
    ("Lengths(4)", "cannot be read: write settings as name=value")])
def test_what_makes_no_task_of_another_package_is_refused_too(outside, spec, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task(f"{outside}:{spec}")


def test_containers_of_the_right_types_reach_the_task(outside):
    task = make_task(f"{outside}:Typed(words=('a',), pair=(1, 2), sizes={{'a': 1}}, level='high', free=[1])")
    assert (task.words, task.pair, task.sizes) == (("a",), (1, 2), {"a": 1})
    assert task.level == "high" and task.free == [1]


def test_a_check_of_rows_that_breaks_names_the_row():
    class Hasty(Parrot):
        def check_row(self, row, index):
            row["text"]

    with pytest.raises(UserError, match="^x.jsonl, row 2: the task cannot look at the row: KeyError"):
        check_rows(Hasty(), [Prompt(None, {}, 1, "x.jsonl, row 2")])


def test_a_task_of_another_package_is_named_by_its_path(outside):
    task = make_task(f"{outside}:Lengths(unit=4, name='m')")
    assert task.grade({}, Action("a b", 2,
                                 False)).reward == 0.5 and task.name == "m" and task.lowest_reward is None
    assert make_task(f"{outside}:Lengths").unit == 1.0 and make_task(f"{outside}:made(limit=2)").unit == 2
    for spec, reason in ((f"{outside}:Lengths(unit=true)", "unit = True must be of type float"),
                         (f"{outside}:Lengths(name=3)", "name = 3 must be of type str . None"),
                         (f"{outside}:Lengths(units=2)", "Did you mean 'unit'"),
                         (f"{outside}:made", "needs the setting 'limit'"),
                         (f"{outside}:three", "no class or function 'three'")):
        with pytest.raises(ConfigError, match=reason):
            make_task(spec)


def test_a_task_that_is_not_whole_or_misspelt_is_told_what_it_lacks(outside):
    dataclass = "no setting 'unit'.* Its settings: none. Its fields are settings if it is a @dataclasses"
    for name, reason in (("Bare", r"the task lacks grade\(row, action\): define"),
                         ("Half", r"the task lacks check_row\(row, index\) and grade\(row, action\)"),
                         ("Whole(unit=2)", dataclass), ("Length", "Did you mean 'Lengths'")):
        with pytest.raises(ConfigError, match=reason):
            make_task(f"{outside}:{name}")
    for name, known in (("Lengths", "Lengths"), ("Length", "Lengths"), ("maid", "made")):
        with pytest.raises(ConfigError, match=f"is not known. Did you mean '{outside}:{known}'"):
            make_task(f"{outside}.{name}")
    for name in ("own_package.task.Own", "..Own", "Own"):
        with pytest.raises(ConfigError, match="is not known. Known"):
            make_task(name)


def test_what_every_task_says_of_itself_is_no_setting():
    @dataclasses.dataclass
    class Own(SingleTurnTask):
        lowest_reward: ClassVar[float] = 0.0
        concurrent: ClassVar[bool] = False

    assert not dataclasses.fields(Own)
    for name in ("lowest_reward", "concurrent", "deterministic"):
        assert typing.get_origin(typing.get_type_hints(Task)[name]) is ClassVar
    assert make_task("gsm8k").lowest_reward == -0.05 and make_task("gsm8k(binary=true)").lowest_reward == 0


@dataclasses.dataclass
class Parrot(SingleTurnTask):
    """Rewards the row's own text."""
    bonus: float = 1.0

    def check_row(self, row, index):
        if "text" not in row:
            raise UserError("The row has no text.")

    def grade(self, row, action):
        return Step(self.bonus * (action.text == row["text"]))


def test_a_task_can_be_registered_from_outside_and_not_over_another(monkeypatch):
    monkeypatch.setattr("jaxrl_moe.envs.registry.TASKS", dict(TASKS))
    register("parrot", Parrot)
    register("parrot", Parrot)
    assert make_task("parrot(bonus=2)").grade({"text": "a"}, Action("a", 1, False)).reward == 2
    for name, reason in (("gsm8k", "There is a task 'gsm8k' already"),
                         ("my-task", "cannot be called 'my-task'")):
        with pytest.raises(UserError, match=reason):
            register(name, Parrot)


def test_an_episode_of_one_step_ends_with_it():
    with pytest.raises(UserError, match="ended"):
        env = make_task("gsm8k").open(ROW, 0)
        assert env.reset() == () and env.step(Action("1234", 1, False)).done
        env.step(Action("1234", 1, False))


def test_checking_a_row_grades_nothing(monkeypatch):
    monkeypatch.setattr(Gsm8k, "grade", lambda *_: pytest.fail("graded"))
    make_task("gsm8k").check_row(ROW, 3)
    with pytest.raises(UserError, match="no gold number"):
        make_task("gsm8k").check_row({"answer": "none"}, 3)
    with pytest.raises(UserError, match="integer `answer`"):
        make_task("word_problems").check_row({"answer": "none"}, 4)


def test_the_names_of_the_recipes_make_tasks():
    names = {line.split('"')[1] for path in (pathlib.Path(__file__).parents[2] / "configs").rglob("*.py")
             for line in path.read_text().splitlines() if 'env.name = "' in line}
    assert {"gsm8k", "gsm8k(binary=true)", "word_problems"} <= names and all(
        make_task(name) for name in names)
