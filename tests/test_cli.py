"""The command line's parts that need no process of their own."""
import errno

import jax
import pytest

from jaxrl_moe import cli


@pytest.mark.parametrize("error, words", [
    (FileNotFoundError(errno.ENOENT, "", "a/b.json"), ["'a/b.json': No such file", "Check the path"]),
    (PermissionError(errno.EACCES, "", "/root/x"), ["'/root/x': Permission denied", "give another path"]),
    (OSError(errno.ENOSPC, ""), ["No space left on device", "Free some space"]),
    (OSError("a library's own words"), ["a library's own words"]),
])
def test_an_error_of_the_operating_system_is_one_paragraph_and_exit_code_1(error, words, monkeypatch, capsys):
    monkeypatch.setattr(cli.app, "run", lambda *args, **kwargs: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit) as ended:
        cli.run(test_an_error_of_the_operating_system_is_one_paragraph_and_exit_code_1, recipe=False)
    printed = capsys.readouterr().err
    assert ended.value.code == 1 and printed.startswith("Error: ") and "\n\n" not in printed
    assert all(word in " ".join(printed.split()) for word in words)


@pytest.fixture
def cache_setting():
    before = jax.config.jax_compilation_cache_dir
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_are_kept_under_the_home_unless_told_otherwise(cache_setting, tmp_path, monkeypatch):
    before = cache_setting()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    cli.keep_compiled()
    assert cache_setting() == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.keep_compiled()
    assert cache_setting() == str(tmp_path / ".cache/jaxrl_moe/xla")


def test_a_home_that_cannot_be_written_keeps_nothing(cache_setting, tmp_path, monkeypatch):
    before = cache_setting()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    cli.keep_compiled()
    assert cache_setting() == before
