"""What plans are compiled for: chips from a table or a file, how much of their memory JAX gets, where their
compiler is."""
import dataclasses
import json
import pathlib
import re

import pytest

from jaxrl_moe.distributed.chips import CHIPS, Architecture, find_chip, memory_fraction, set_memory_fraction
from jaxrl_moe.planning import target
from jaxrl_moe.types import UserError

ROOT = pathlib.Path(__file__).parents[2]
OWN = {"flops": 1e14, "memory": 1e10, "bandwidth": 1e12, "link": 1e10}
BUILD = {
    "kind": "NVIDIA A10",
    "capability": [8, 6],
    "cores": 72,
    "clock": 1.7,
    "matrix_clock": 1.7,
    "l2": 6 << 20,
    "shared": 100 << 10
}


def test_a_file_adds_chips_with_and_without_an_architecture(tmp_path):
    (tmp_path / "chips.json").write_text(json.dumps({"A10": OWN | {"architecture": BUILD}, "plain": OWN}))
    chip = find_chip("A10", str(tmp_path / "chips.json"))
    assert chip.architecture == Architecture("NVIDIA A10", (8, 6), 72, 1.7, 1.7, 6 << 20, 100 << 10)
    text = target.configuration(chip)
    assert "major: 8 minor: 6" in text and "core_count: 72" in text and "ACCELERATED" not in text
    plain = find_chip("plain", str(tmp_path / "chips.json"))
    assert plain.architecture is None and not target.usable(plain)
    assert "--xla_force_host_platform_device_count=3 " in target.environment(plain, 3)["XLA_FLAGS"]


@pytest.mark.parametrize("architecture", [{}, {"kind": "x"}, BUILD | {"colour": 1}, [8, 6]])
def test_an_architecture_that_cannot_be_read_is_refused(tmp_path, architecture):
    path = tmp_path / "chips.json"
    path.write_text(json.dumps({"A10": OWN | {"architecture": architecture}}))
    with pytest.raises(UserError, match=re.escape(str(path)) + " is no table of chips"):
        find_chip("A10", str(path))


@pytest.mark.parametrize("key, values", [
    *((key, ("8e10", True, -1, 0, None, [1], 1e300)) for key in OWN),
    *((f"architecture.{key}", ("7", True, -1, 0, {}, 1e300)) for key in BUILD if key not in ("kind",
                                                                                            "capability")),
    ("architecture.kind", (7, None, "", "a\nb")),
    ("architecture.capability", ((8,), (8, 6, 0), ("8", "6"), (8, True), (-8, 6), 8, "86")),
    ("flop", (1,)), ("architecture.threads", (0, "x")), ("architecture", ([], "x", True))])
def test_a_chip_that_none_is_is_refused_by_its_field(tmp_path, key, values):
    path = tmp_path / "chips.json"
    for value in values:
        chip = OWN | {"architecture": dict(BUILD)}
        outer, _, inner = key.partition(".")
        (chip["architecture"] if inner else chip)[inner or outer] = value
        path.write_text(json.dumps({"A10": chip}))
        with pytest.raises(UserError, match=rf"is no table of chips \(.*{inner or outer}"):
            find_chip("A10", str(path))


def test_a_table_of_chips_that_is_none_is_refused(tmp_path):
    path = tmp_path / "chips.json"
    for text in ("", "[]", "{", '{"A10": 5}', '{"A10": {}}', '{"A10": {"flops": NaN}}'):
        path.write_text(text)
        with pytest.raises(UserError, match="is no table of chips"):
            find_chip("H200", str(path))
    with pytest.raises(UserError, match="is no table of chips .*does not exist"):
        find_chip("H200", str(tmp_path / "none.json"))


def test_jax_gets_the_share_that_is_set_and_0_94_otherwise():
    chip = CHIPS["H200"]
    assert chip.client_memory({}) == int(0.94 * chip.memory)
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        assert chip.client_memory({name: "0.5"}) == int(chip.memory / 2)
        environment = {name: "0.5"}
        set_memory_fraction(environment)
        assert environment == {name: "0.5"}
    environment = {}
    set_memory_fraction(environment)
    assert environment == {"XLA_CLIENT_MEM_FRACTION": "0.94"}


@pytest.mark.parametrize("text", ["much", "0", "-1", "1.5", "nan"])
def test_no_share_of_a_memory_is_refused(text):
    with pytest.raises(UserError, match="XLA_CLIENT_MEM_FRACTION=.* is no share"):
        memory_fraction({"XLA_CLIENT_MEM_FRACTION": text})


def test_a_process_that_plans_finds_the_compiler_before_all_else_and_runs_on_cpus(tmp_path, monkeypatch):
    monkeypatch.setenv(target.FOLDER, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "mine")
    found = target.environment(CHIPS["H100"], 8)
    assert found["PYTHONPATH"].split(":") == [str(tmp_path), "mine"] and found["JAX_PLATFORMS"] == "cpu"
    monkeypatch.setenv(target.FOLDER, str(tmp_path / "absent"))
    if not target.installed():
        assert not target.at_hand() and "device_count=8" in target.environment(CHIPS["H100"], 8)["XLA_FLAGS"]


def test_matrix_units_reach_the_peak_of_the_data_sheet():
    for name, chip in CHIPS.items():
        build = chip.architecture
        rate = re.search(r"key: 16 value \{ clock_rate_ghz: (\S+) units_per_core: 4 ops_per_clock: (\d+)",
                         target.configuration(chip).split("matrix_unit_description")[1])
        assert 2 * 4 * build.cores * float(rate[1]) * 1e9 * int(rate[2]) == pytest.approx(
            chip.flops, rel=0.01), name
        assert dataclasses.replace(chip, architecture=None) != chip


def test_code_asks_its_devices_for_their_platform():
    asks = [
        path for folder in ("jaxrl_moe", "bridges", "scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*.py") if "default_backend(" in path.read_text()
    ]
    assert not asks
