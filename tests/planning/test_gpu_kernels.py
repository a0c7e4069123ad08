"""Every kernel compiles for GPUs, forward and backward, and asks for no more memory than it should. Nothing
runs."""
import importlib.util

import pytest

from tests.planning.gpu_target import MIB, found

CHIPS = ("H100", "B200")
CUBLAS = "__cublas$lt$matmul"
CUDNN = "__cudnn$fmhaScaleBiasSoftmax"
WORKSPACE = 34 * MIB  # of cuBLAS
# Temporaries in MiB at the shape of a 30B layer. Scores of all heads, [4, 32, 2048, 2048] in float32, are 2
# GiB; the experts' matrices of two layers 2.3 GiB, of one product's 0.4.
MOST = {"attention causal": 1000, "attention chunked": 2400, "attention cudnn": 200, "grouped padded": 1000,
        "layers padded": 2300, "logprobs frozen": 450, "logprobs trained": 1450, "grouped tokamax": 1000,
        "layers tokamax": 2600}
TOKAMAX = pytest.mark.skipif(importlib.util.find_spec("tokamax") is None,
                             reason="tokamax is not installed (Python >= 3.12)")


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("backend", ["xla", "causal", "chunked"])
def test_attention_compiles_to_cublas(chip, backend):
    for size in ("small", "30B"):
        assert CUBLAS in found("kernels", chip, f"attention {backend} {size}")["calls"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("size", ["small", "30B"])  # the small one has an odd length
def test_cudnns_attention_is_one_fused_call_each_way(chip, size):
    assert {CUDNN, CUDNN + "Backward"} <= set(found("kernels", chip, f"attention cudnn {size}")["calls"])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("backend", ["padded", "tiles", "ragged"])
def test_grouped_products_compile_to_cublas(chip, backend):
    findings = found("kernels", chip, f"grouped {backend} small")
    assert CUBLAS in findings["calls"] and findings["temporary"] < WORKSPACE


@TOKAMAX
@pytest.mark.parametrize("kind", ["grouped", "layers"])
@pytest.mark.parametrize("size", ["small", "30B"])
def test_tokamaxs_kernels_are_called_on_hopper_and_replaced_elsewhere(kind, size):
    assert any("mosaic" in call for call in found("kernels", "H100", f"{kind} tokamax {size}")["calls"])
    assert CUBLAS in found("kernels", "B200", f"{kind} tokamax {size}")["calls"]


@pytest.mark.parametrize("chip, name", [
    pytest.param(chip, name, marks=TOKAMAX if "tokamax" in name else ()) for name in MOST
    for chip in (CHIPS[:1] if "tokamax" in name else CHIPS)
])
def test_temporaries_at_the_shape_of_a_30b_layer_stay_within_bounds(chip, name):
    assert found("kernels", chip, f"{name} 30B")["temporary"] < MOST[name] * MIB


@pytest.mark.parametrize("chip", ["H200", "A100", "L40S", "RTX3090"])
def test_every_chip_of_the_table_can_be_compiled_for(chip):
    assert CUBLAS in found("one product", chip, "product")["calls"]
