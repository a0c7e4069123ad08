"""Lists of texts and of names from recipes and from the command line arrive as they were written."""

import pytest
from absl import flags

from jaxrl_moe import cli, config
from jaxrl_moe.config import ConfigError, resolve
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
    path.write_text("from jaxrl_moe.config import base as get_config")

    def read(*arguments):
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
