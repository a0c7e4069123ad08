"""The command line's parts that need no process of their own."""
import errno

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

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
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield lambda: jax.config.jax_compilation_cache_dir
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_compiled_programs_are_kept_under_the_home_unless_told_otherwise(cache_setting, tmp_path, monkeypatch):
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
    (folder / "old-cache").write_bytes(bytes(5000))  # as a killed process leaves it: without a time of last use
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


@pytest.mark.parametrize("given, read", [("algorithm.reward_blend=0.3,0.3,0.4", "algorithm.reward_blend=('0.3', '0.3', '0.4')"),
                                         ("lora.targets=q_proj", "lora.targets=('q_proj',)"), ("seed=3", "seed=3")])
def test_names_and_numbers_with_commas_between_are_read_as_tuples(given, read):
    assert cli._checked_override(f"--config.{given}") == f"--config.{read}"
