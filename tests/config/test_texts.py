"""Lists of texts and of names from recipes and from the command line arrive as they were written."""

import pytest
from absl import flags

from jaxrl_moe import cli, config, endings
from jaxrl_moe.config import ConfigError, resolve
from jaxrl_moe.types import UserError
from tests.helpers.settings import changed

STOPS = [("\n\n", ("\n\n",)), (" Human:", (" Human:",)), ("\t", ("\t",)), ("a , b", ("a ", " b")),
         ("  ", ("  ",)), ("[/INST]", ("[/INST]",)), ("(end)", ("(end)",)), ("[1]", ("[1]",)), (")", (")",)),
         ("{a,b}", ("{a", "b}")), ("('a, b', '\\n\\n')", ("a, b", "\n\n")), ("('\\n')", ("\n",)),
         ('[" x"]', (" x",)), ("\u3000", ("\u3000",)), ("", ()), ("()", ()), ("5", ("5",)), ("'", ("'",)),
         ("\\n", ("\\n",))]


@pytest.fixture
def from_command_line(tmp_path):
    """What makes the Config of a recipe that changes nothing, and these arguments."""
    path = tmp_path / "recipe.py"

    def read(*arguments, recipe="from jaxrl_moe.config import base as get_config"):
        path.write_text(recipe)
        words = ["script", f"--config={path}", *arguments]
        try:
            cli.parse(words)
            return resolve(flags.FLAGS["config"].value)
        finally:
            flags.FLAGS.remove_flag_values([name for name in flags.FLAGS if name.split(".")[0] == "config"])
    return read


@pytest.mark.parametrize("text, stops", STOPS)
def test_stop_strings_keep_their_white_space_wherever_they_are_written(from_command_line, text, stops):
    assert from_command_line(f"--config.rollout.stop_strings={text}").rollout.stop_strings == stops
    assert from_command_line("--config.rollout.stop_strings", text).rollout.stop_strings == stops
    assert resolve({"rollout": {"stop_strings": text}}).rollout.stop_strings == stops
    assert resolve(changed(rollout__stop_strings=stops)).rollout.stop_strings == stops
    shown = config.shown(stops)
    assert from_command_line(f"--config.rollout.stop_strings={shown}").rollout.stop_strings == stops


@pytest.mark.parametrize("value", [",", "a,,b", ("a", ""), ('("",)')])
def test_an_empty_stop_string_is_refused_instead_of_dropped(value):
    with pytest.raises(ConfigError, match="rollout.stop_strings.*empty text"):
        resolve({"rollout": {"stop_strings": value}})


@pytest.mark.parametrize("value", [(None,), (5,), (("a",),)])
def test_what_is_no_text_is_refused_instead_of_spelled(value):
    with pytest.raises(ConfigError, match="rollout.stop_strings.*type str"):
        resolve({"rollout": {"stop_strings": value}})


@pytest.mark.parametrize("text, targets", [
    ("q_proj, v_proj", ("q_proj", "v_proj")), ("(a|b),[cd]x", ("(a|b)", "[cd]x")),
    (r"(q|k)_proj", ("(q|k)_proj",)), ("('q_proj', 'v_proj')", ("q_proj", "v_proj")),
    (r"layers\.\d{1,2}\..*,(x)", (r"layers\.\d{1,2}\..*", "(x)"))])
def test_names_and_expressions_come_from_the_command_line_whole(from_command_line, text, targets):
    assert from_command_line(f"--config.lora.targets={text}").lora.targets == targets


@pytest.mark.parametrize("text", ["1,0,-0.5", "(1, 0, -0.5)", "[1, 0, -0.5]", " 1 , 0 , -0.5"])
def test_numbers_come_from_the_command_line_in_brackets_or_without(from_command_line, text):
    read = from_command_line(f"--config.algorithm.reward_blend={text}")
    assert read.algorithm.reward_blend == (1.0, 0.0, -0.5)


@pytest.mark.parametrize("key", [
    "lora.targets", "algorithm.corrections", "algorithm.reward_blend", "servers.urls", "train.offload"])
@pytest.mark.parametrize("text", [" ", ",", "\t\n", "1,,2", "('',)"])
def test_an_empty_item_of_a_list_is_refused_instead_of_dropped(from_command_line, key, text):
    with pytest.raises(ConfigError, match=f"{key} = .*(empty text|cannot be read)"):
        from_command_line(f"--config.{key}={text}")


@pytest.mark.parametrize("key, value", [
    ("scratch.hidden_size", "x" * 100_000), ("optimizer.learning_rate", "x " * 50_000), ("x" * 100_000, "1"),
    ("run_dir", "\0" + "y" * 100_000), ("data.generate", "z\x1b[2J" * 9_000)])
def test_a_long_value_is_cut_and_escaped_where_it_is_refused(from_command_line, key, value):
    with pytest.raises(UserError) as refused:
        from_command_line(f"--config.{key}={value}")
    told = endings.paragraph(refused.value)
    assert len(told) < 3000 and "..." in told and told.replace("\n", "").isprintable()


@pytest.mark.parametrize("line, shown", [
    ("model.dtype = 'a\\0b\\x1b'", r"a\x00b\x1b"), ("algorithm.bypass = 'a\\0b'", r"a\x00b"),
    ("lora.targets = ('a\\0b', 5)", r"a\x00b,5"), ("run_dir = '\\ud800'", r"\ud800")])
def test_what_a_recipe_gives_is_escaped_where_it_is_refused(from_command_line, line, shown):
    recipe = ("from jaxrl_moe.config import base\ndef get_config():\n    config = base()\n"
              f"    config.{line}\n    return config\n")
    with pytest.raises(UserError) as refused:
        from_command_line(recipe=recipe)
    told = endings.paragraph(refused.value)
    assert shown in told and told.replace("\n", "").isprintable()


@pytest.mark.parametrize("line", [
    "rollout.temperature = True", "optimizer.eps = False", "optimizer['eps'] = True",
    "lora.update(alpha=True)"])
def test_a_truth_is_no_number(from_command_line, line):
    recipe = ("from jaxrl_moe.config import base\ndef get_config():\n    config = base()\n"
              f"    config.{line}\n    return config\n")
    with pytest.raises(UserError, match="line 4.*is no number"):
        from_command_line(recipe=recipe)
    assert from_command_line(recipe=recipe.replace("True", "1").replace("False", "1")).optimizer.eps > 0
