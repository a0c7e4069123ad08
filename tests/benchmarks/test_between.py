"""Two checkouts timed in turn: each is what runs, whatever it prints, and one that cannot run is said."""
import pytest

from benchmarks import between

CASE = """
import time
import types

def case():
    return types.SimpleNamespace(settings={"seconds": SECONDS})

def ours(seconds):
    return lambda: print("between us") or time.sleep(seconds)
"""


def checkout(folder, seconds, library=True):
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "benchmarks" / "train_step.py").write_text(CASE.replace("SECONDS", str(seconds)))
    if library:
        (folder / "jaxrl_moe").mkdir()
        (folder / "jaxrl_moe" / "__init__.py").write_text("")
    return folder


def test_a_row_has_the_seconds_of_each_checkout(tmp_path):
    trees = [checkout(tmp_path / "this", 0.05), checkout(tmp_path / "other", 0.5)]
    case, this, other, *_ = between.compare("train_step.case", trees, pairs=2)
    assert case == "train_step.case" and float(this) >= 0.05 and float(other) >= 0.5


def test_a_checkout_whose_library_is_anothers_is_not_timed(tmp_path, capfd):
    trees = [checkout(tmp_path / "this", 0.0), checkout(tmp_path / "other", 0.0, library=False)]
    with pytest.raises(SystemExit, match=f"process of {trees[1]} ended"):
        between.compare("train_step.case", trees, pairs=1)
    assert f"is not of {trees[1]}" in capfd.readouterr().err


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["between", str(tmp_path)])
    with pytest.raises(SystemExit) as refused:
        between.main()
    assert refused.value.code == 2 and f"{tmp_path} is no checkout" in capsys.readouterr().err
