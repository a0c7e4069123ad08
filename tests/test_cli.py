"""The command line's parts that need no process of their own."""
import errno
import re

import jax
import jax.numpy as jnp
import pytest
from absl import flags
from jax.experimental.compilation_cache import compilation_cache

from jaxrl_moe import cli, config, endings, help_text, options
from jaxrl_moe.types import Problem, UserError


@pytest.mark.parametrize("error, code", [
    (FileNotFoundError(errno.ENOENT, "", "a/b.json"), 1), (ValueError("a library's own"), 1),
    (config.ConfigError("seed is odd."), 1), (KeyboardInterrupt(), 130)])
def test_an_error_of_a_script_is_one_paragraph_and_an_exit_code(error, code, monkeypatch, capsys):
    monkeypatch.setattr(cli.app, "run", lambda *args, **kwargs: (_ for _ in ()).throw(error))
    monkeypatch.setattr(endings, "install", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        cli.run(test_an_error_of_a_script_is_one_paragraph_and_an_exit_code, recipe=False)
    printed = capsys.readouterr().err
    assert stopped.value.code == code and printed.startswith("Error: ") and "\n\n" not in printed


@pytest.fixture
def cache_setting():
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size",
             "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield lambda: jax.config.jax_compilation_cache_dir
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_compiled_programs_are_kept_under_the_home_unless_told_otherwise(cache_setting, tmp_path,
                                                                         monkeypatch):
    before = cache_setting()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    cli.keep_compiled()
    assert cache_setting() == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.keep_compiled()
    assert cache_setting() == str(tmp_path / ".cache/jaxrl_moe/xla")


def test_the_folder_of_compiled_programs_keeps_to_its_limit(cache_setting, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DIR", "MAX_SIZE"):
        monkeypatch.delenv(f"JAX_COMPILATION_CACHE_{name}", raising=False)
    monkeypatch.setattr(cli, "CACHE_BYTES", 20_000)
    folder = tmp_path / ".cache/jaxrl_moe/xla"
    folder.mkdir(parents=True)
    # as a killed process leaves it: without a time of last use
    (folder / "old-cache").write_bytes(bytes(5000))
    cli.keep_compiled()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    for size in range(2, 10):
        jax.jit(lambda x: jnp.sort(x) * 2)(jnp.ones(size))
    sizes = [entry.stat().st_size for entry in folder.glob("*-cache")]
    assert 10_000 < sum(sizes) <= 20_000 and not (folder / "old-cache").exists()


def test_a_home_that_cannot_be_written_keeps_nothing(cache_setting, tmp_path, monkeypatch):
    before = cache_setting()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    cli.keep_compiled()
    assert cache_setting() == before


@pytest.mark.parametrize("given, read",
                         [("algorithm.reward_blend=0.3,0.3,0.4", "algorithm.reward_blend=('0.3', "
                           "'0.3', '0.4')"), ("lora.targets=q_proj", "lora.targets=('q_proj',)"),
                          ("seed=3", "seed=3")])
def test_names_and_numbers_with_commas_between_are_read_as_tuples(given, read):
    assert cli._readable(f"--config.{given}") == f"--config.{read}"


def in_one_line(text):
    return " ".join(text.split())


def test_help_explains_every_setting_with_its_default_its_choices_and_its_bounds():
    text = help_text.settings_help()
    entries = re.split(r"\n  --config\.", text)
    explained = {entry.partition("=")[0]: in_one_line(entry) for entry in entries[1:]}
    assert list(explained) == list(config.known_keys())
    for key, field in config.known_fields().items():
        described = config.setting_of(field)
        words = explained[key]
        assert words.startswith(in_one_line(f"{key}={config.shown(field.default)} {described.meaning}"))
        assert described.bounds() in words and described.unit in words
        names = [*described.choices, *(help_text.table_rows(described.table) if described.table else ())]
        assert not names or " | ".join(name or "empty" for name in names) in words
        assert all(in_one_line(meaning) in words for meaning in described.choices.values())


def test_help_says_what_every_section_is_for():
    text = in_one_line(help_text.settings_help())
    for name, kind in config.SECTIONS.items():
        assert f" {name}: {in_one_line(kind.__doc__)} --config.{name}." in text


@pytest.mark.parametrize("columns", [60, 79, 120])
def test_help_keeps_to_the_terminals_width_and_to_its_columns(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_text.settings_help().splitlines()
    assert max(map(len, lines)) <= columns
    for line in lines:
        if line.startswith("  --config.") and len(line.split()) > 1:
            assert line[46] == " " and line[47] != " "
        elif line.startswith("   "):
            assert line.startswith(" " * 47)


def test_every_table_that_a_setting_names_is_there_and_has_its_default():
    for field in config.known_fields().values():
        described = config.setting_of(field)
        if described.table:
            names = [*described.choices, *help_text.table_rows(described.table)]
            default = field.default if isinstance(field.default, tuple) else (field.default or names[0],)
            assert names and set(default) <= set(names)


def test_several_problems_are_printed_line_by_line():
    short = Problem("a.b", 1, "is odd", "use 2")
    long = Problem("c.d", "x" * 30, "is long", "use " + "fewer letters, " * 8)
    printed = endings.paragraph(config.ConfigError(short, long)).splitlines()
    assert printed[:2] == ["Error: 2 things stand in the way:", "1. a.b = 1 is odd: use 2."]
    assert printed[2].startswith("2. c.d = ") and len(printed) > 3
    assert all(line.startswith("   ") for line in printed[3:])
    assert endings.paragraph(config.ConfigError(short)) == "Error: a.b = 1 is odd: use 2."


def test_all_misspelt_options_are_told_together():
    with pytest.raises(config.ConfigError, match="'lora.rnk'. Did you mean 'lora.rank'") as refused:
        cli.parse(["script", "--config=x.py", "--config.lora.rnk=3", "--config.seed=1", "--config.sed=1"])
    assert [problem.field for problem in refused.value.problems] == ["lora.rnk", "sed"]


def test_the_home_folder_is_filled_in_where_an_option_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/her")
    assert cli._readable("--config.data.suffix=~/mine") == "--config.data.suffix=~/mine"
    options.define_path("a_path_of_a_test", None, "a path")
    flag = flags.FLAGS["a_path_of_a_test"]
    for given, read in (("~/model", "/home/her/model"), ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B")):
        flag.parse(given)
        assert flag.value == read
    flags.FLAGS.remove_flag_values(["a_path_of_a_test"])


@pytest.fixture
def parse(tmp_path):
    """Parses options over a recipe of this text."""
    def run(text, *options):
        path = tmp_path / "recipe.py"
        path.write_bytes(text.encode("latin-1"))
        cli.parse(["script", f"--config={path}", *options])
        return flags.FLAGS.config
    yield run
    flags.FLAGS.remove_flag_values([name for name in flags.FLAGS if re.match("config($|\\.)", name)])
    flags.FLAGS.unparse_flags()


GOOD = "from jaxrl_moe.config import base\ndef get_config():\n    return base()\n"


@pytest.mark.parametrize("text, words", [
    ("import configs.shared.nonesuch", "line 1 cannot be read: ModuleNotFoundError: .*nonesuch"),
    ("x = 1\ndef get_config(", "line 2 cannot be read: SyntaxError: '\\(' was never closed"),
    ("raise RuntimeError('boom')", "line 1 cannot be read: RuntimeError: boom"),
    ("def get_config():\n    raise ValueError('two\\nlines')", "line 2 cannot be read: ValueError: two l"),
    ("def get_config():\n    return nonesuch", "line 2 cannot be read: NameError"),
    ("assert False", "line 1 cannot be read: AssertionError"),
    ("def f(): f()\nf()", "cannot be read: RecursionError"),
    ("import sys\nsys.exit(3)", "line 2 cannot be read: SystemExit: it ends the process"),
    ("x = '\xe9'", "cannot be read: SyntaxError: .*utf-8"), ("x = 1\0", "SyntaxError: .*null bytes"),
    ("", "has no get_config"), ("get_config = 3", "has no get_config"),
    ("def get_config(): pass", "returns None, .* no return statement"),
    ("def get_config(): return 3", "returns a value of type int"),
    (GOOD.replace("base()\n", "base().lora.update(rnk=3)"), "setting 'rnk' .*Did you mean 'rank'")])
def test_a_recipe_that_cannot_be_used_is_refused_with_the_reason_and_the_line(parse, text, words):
    with pytest.raises(config.ConfigError, match=words) as refused:
        parse(text)
    assert str(refused.value).count("\n") == 0 and "recipe.py'" in str(refused.value)


@pytest.mark.parametrize("path, words", [
    ("", "No recipe is given"), ("tests", "'tests' is a folder"), ("none.py", "'none.py' does not exist"),
    ("configs/nonesuch/quickstart.py", "such as configs/quickstart.py"), ("~nonesuch_user/x", "home folder"),
    ("a" * 300, "has a name of more than 255 bytes"), ("a\0b", "NUL")])
def test_a_recipe_that_is_not_there_is_refused(path, words):
    with pytest.raises(UserError, match=words):
        cli.parse(["script", f"--config={path}"])


@pytest.mark.parametrize("options, words", [
    (["--config.seed=x"], "config.seed=x: invalid literal"), (["--config.seed"], "Missing value"),
    (["--config.seed=1", "--config.seed=2"], "--config.seed is given twice, as '1' and as '2'"),
    (["--config.seed", "1", "--config.seed=2"], "--config.seed is given twice"),
    (["--config.eval.greedy", "--noconfig.eval.greedy"], "given twice, as 'true' and as 'false'"),
    (["--config=other.py"], "--config is given twice"), (["--nonesuch=1"], "Unknown command line flag"),
    (["--debgu"], "Did you mean: debug\\?"), (["--config.lora.rnk=3"], "Did you mean 'lora.rank'")])
def test_a_wrong_option_is_refused(parse, options, words):
    with pytest.raises(config.ConfigError, match=words):
        parse(GOOD, *options)


def test_options_stand_over_the_recipe_wherever_they_stand(parse):
    read = parse(GOOD, "--config.seed=3", "--config.seed=3", "--config.lora.targets=q_proj,v_proj",
                 "--noconfig.eval.greedy", "--config.run_dir", "a b")
    assert (read.seed, read.run_dir, read.eval.greedy) == (3, "a b", False)
    assert read.lora.targets == ("q_proj", "v_proj")
