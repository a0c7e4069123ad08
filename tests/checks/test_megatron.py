"""Megatron's folders are told by what is in them, and what lacks is named."""
import pathlib

import pytest

from jaxrl_moe.checks.megatron import LATEST, WEIGHTS, described, is_megatron


def folder(tmp_path, latest, files):
    if latest is not None:
        (tmp_path / LATEST).write_text(latest)
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def ranks(iteration, *numbers):
    return [f"{iteration}/mp_rank_{number}/{WEIGHTS}" for number in numbers]


@pytest.mark.parametrize("latest, files, told", [
    ("566\n", ranks("iter_0000566", "00", "01"), "iter_0000566 with 2 ranks"),
    ("566", ranks("iter_0000566", "00_000", "00_001", "01_000", "01_001"), "iter_0000566 with 4 ranks"),
    ("566", ranks("iter_0000566", "00", "02"), f"iter_0000566 with 2 ranks; mp_rank_01 without {WEIGHTS}"),
    ("566", [*ranks("iter_0000566", "00"), "iter_0000566/mp_rank_01/other.pt"],
     f"iter_0000566 with 2 ranks; mp_rank_01 without {WEIGHTS}"),
    ("600", ranks("iter_0000566", "00"), f"{LATEST} names iter_0000600, which is not there"),
    ("release", ranks("release", "00"), "release with 1 ranks"),
    ("soon", [], f"{LATEST} holds no iteration"), ("\u0665", [], f"{LATEST} holds no iteration"),
    ("7", ["iter_0000007/.metadata", "iter_0000007/__0_0.distcp", "iter_0000007/__1_0.distcp"],
     "iter_0000007 in torch_dist's format, 2 files")])
def test_what_is_there_and_what_lacks_is_told(tmp_path, latest, files, told):
    there = folder(tmp_path, latest, files)
    assert is_megatron(there) and described(there) == told


def test_an_iterations_own_folder_is_one_too_and_others_are_none(tmp_path):
    there = folder(tmp_path, None, ranks("iter_0000003", "00", "01"))
    assert described(there / "iter_0000003") == "iter_0000003 with 2 ranks"
    assert not is_megatron(there) and not is_megatron(pathlib.Path("Qwen/Qwen3-8B"))


def test_a_rank_whose_weights_are_empty_lacks_them(tmp_path):
    there = folder(tmp_path, "1", ranks("iter_0000001", "00"))
    (there / "iter_0000001" / "mp_rank_00" / WEIGHTS).write_bytes(b"")
    assert described(there) == f"iter_0000001 with 1 ranks; mp_rank_00 without {WEIGHTS}"
