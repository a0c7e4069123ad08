"""The programs of a run compile for GPUs: the update, the engine's, the exchange of tokens, offload. Nothing
runs."""
import pytest

from tests.planning.gpu_target import MIB, found

CHIPS = pytest.mark.parametrize("chip", ["H100", "B200"])
CUBLAS = "__cublas$lt$matmul"
# Of two layers of the 30B with its recipe: micro-batches of 15,360 tokens, 128 slots. The experts of one
# layer are 1.1 GiB.
MOST = {"gradients": 5700, "apply": 1, "forward": 3100, "decode": 1800, "prefill": 2500, "copy_pages": 40}
EXCHANGES = {
    "gather": ("all-gather", "reduce-scatter"),
    "capacity": ("all-to-all",),
    "ragged": ("ragged-all-to-all",)
}


def program(chip, case):
    return found("programs", chip, case)


@CHIPS
@pytest.mark.parametrize("name", MOST)
def test_every_program_of_a_run_compiles_for_gpus_within_bounds(chip, name):
    findings = program(chip, "30B")[name]
    assert (CUBLAS in findings["calls"]) == (name not in ("apply", "copy_pages"))
    assert not findings["collectives"] and findings["temporary"] < MOST[name] * MIB


@CHIPS
@pytest.mark.parametrize("transport", EXCHANGES)
def test_tokens_reach_their_experts_by_the_collective_asked_for(chip, transport):
    collectives = program(chip, f"small, {transport}")["gradients"]["collectives"]
    assert set(EXCHANGES[transport]) <= set(collectives)
    assert ("ragged-all-to-all" in collectives) == (transport == "ragged")


@CHIPS
def test_all_weights_are_trained_over_fsdp_and_tensor(chip):
    found_here = program(chip, "small, fsdp and tensor")
    assert {"all-gather", "reduce-scatter", "all-reduce"} <= set(found_here["gradients"]["collectives"])
    assert {"all-gather", "all-reduce"} <= set(found_here["decode"]["collectives"])
    assert CUBLAS in found_here["gradients"]["calls"]


@CHIPS
def test_rows_are_split_over_context(chip):
    assert "all-gather" in program(chip, "small, context")["gradients"]["collectives"]


@CHIPS
def test_offloaded_arrays_come_from_the_hosts_memory(chip):
    for name in ("apply", "forward"):
        assert program(chip, "small, offload")[name]["on_host"], name
    assert not program(chip, "30B")["apply"]["on_host"]
