"""Which words of a command line are ours, and which another system's."""
import pytest
from absl import flags

from jaxrl_moe import config, foreign
from jaxrl_moe.types import Problem

DIALECT = foreign.Dialect("theirs", (".toml",), lambda words: None)


@pytest.fixture(scope="module", autouse=True)
def an_option():
    flags.DEFINE_bool("a_foreign_switch", False, "of this test")
    flags.DEFINE_string("a_foreign_text", "", "of this test")


@pytest.mark.parametrize("words, ours, theirs", [
    (["--config=a.toml", "--task-url", "x"], [], ["a.toml", "--task-url", "x"]),
    (["--task-url=x", "--config", "a.toml"], [], ["a.toml", "--task-url=x"]),
    (["theirs", "--lr", "1"], [], ["--lr", "1"]), (["theirs", "--config=b.yaml", "k=v"], [],
                                                   ["b.yaml", "k=v"]),
    (["--config=a.toml", "--config.seed=3", "--a_foreign_switch", "k=v"],
     ["--config.seed=3", "--a_foreign_switch"], ["a.toml", "k=v"]),
    (["--config=a.toml", "--config.seed", "3", "k"], ["--config.seed", "3"], ["a.toml", "k"]),
    (["--config=a.toml", "--config.train.pack", "k"], ["--config.train.pack"], ["a.toml", "k"]),
    (["--config=a.toml", "--noconfig.train.pack", "k"], ["--noconfig.train.pack"], ["a.toml", "k"]),
    (["theirs", "--a_foreign_text", "k", "v"], ["--a_foreign_text", "k"], ["v"]),
    (["theirs", "--lr", "1", "--", "--a_foreign_switch"], [], ["--lr", "1", "--a_foreign_switch"]),
    (["theirs", "--noa_foreign_switch", "--nosuch"], ["--noa_foreign_switch"], ["--nosuch"])])
def test_words_are_shared_out(words, ours, theirs):
    assert foreign.parted(["script", *words], [DIALECT]) == (["script", *ours], DIALECT, theirs)


@pytest.mark.parametrize("words", [["--config=a.py", "--task-url=x"], ["--config.seed=1"], [],
                                   ["other", "x"]])
def test_without_a_dialect_all_words_stay(words):
    assert foreign.parted(["script", *words], [DIALECT]) == (["script", *words], None, [])


def read(words):
    problem = Problem("env.name", None, "is not given", "give --config.env.name=TASK")
    settings = config.base()
    settings.seed = 7
    return foreign.Foreign(settings, {"env.name": problem}, f"read {' '.join(words)}")


def test_what_is_missing_is_refused_unless_it_is_given_beside():
    made = read(["a"])
    with pytest.raises(config.ConfigError, match="env.name is not given"):
        made.refuse_missing(["seed"])
    made.refuse_missing(["env.name"])
