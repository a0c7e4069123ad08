"""Files of environment variables; what is expected was printed by python-dotenv."""
import pytest

from bridges.dialects import env_file
from jaxrl_moe.types import UserError

TEXT = """\
A=1
export B=two words
C='single # $x ${Y} \\n'
D="double\\n\\"q\\" # no"
E=plain # comment
F=a#b
G=
H = spaced
# comment

I="x" # c
J=''
K=" keep "
L=a=b
"""
VALUES = {"A": "1", "B": "two words", "C": "single # $x ${Y} \\n", "D": 'double\n"q" # no', "E": "plain",
          "F": "a#b", "G": "", "H": "spaced", "I": "x", "J": "", "K": " keep ", "L": "a=b"}


def test_a_file_is_read_as_dotenv_reads_it(tmp_path):
    path = tmp_path / ".env"
    path.write_text(TEXT)
    assert env_file.read(str(path)) == VALUES


def test_variables_that_are_set_already_stay(tmp_path):
    path = tmp_path / ".env"
    path.write_text("A=file\nB=file\n")
    environment = {"A": "shell"}
    env_file.load(str(path), environment)
    assert environment == {"A": "shell", "B": "file"}


@pytest.mark.parametrize("line, message", [
    ("s3cret", "line 2 is no NAME=VALUE"), ("KEY='s3cret", r"line 2 \(KEY\): the quotes do not close"),
    ('KEY="s3cret" x', "something follows"), ("KEY=${s3cret}", "is not filled in"),
    ("1A=s3cret", "is no NAME=VALUE")])
def test_a_line_that_is_none_is_refused_without_what_it_holds(line, message, tmp_path):
    path = tmp_path / ".env"
    path.write_text(f"A=1\n{line}\n")
    with pytest.raises(UserError, match=message) as refused:
        env_file.read(str(path))
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--env-file='none.env' cannot be read"):
        env_file.read("none.env")
