"""The kernels of small programs as XLA's compiler for GPUs makes them, against numbers computed by hand."""
import json
import pathlib
import subprocess
import sys

import pytest

from jaxrl_moe.distributed.chips import CHIPS
from jaxrl_moe.planning import target
from jaxrl_moe.planning.instructions import parse
from jaxrl_moe.planning.kernels.floor import least_bytes
from jaxrl_moe.planning.kernels.walk import kernel_table, open_loop

ROOT = pathlib.Path(__file__).parents[2]
CHIP = CHIPS["H100"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def programs():
    """{name: (parsed program, bytes of its arguments, of its results)}, all of one process; see
    gpu_programs.py."""
    if not target.at_hand():
        pytest.skip("XLA's compiler for GPUs is not beside JAX: `make target`")
    done = subprocess.run([sys.executable, "-m", "tests.planning.gpu_programs"], cwd=ROOT,
                          env=target.environment(CHIP, 1), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {
        name: (parse(text), *sizes)
        for name, (text, *sizes) in json.loads(done.stdout.splitlines()[-1]).items()
    }


def table(programs, name, **options):
    return kernel_table(programs[name][0], CHIP, **options)


def of_kind(programs, name, kind):
    return [kernel for kernel in table(programs, name).kernels if kernel.kind == kind]


def test_a_product_reads_its_operands_and_writes_its_result(programs):
    product, = table(programs, "matmul").kernels
    assert (product.kind, product.launches, product.flops) == ("gemm", 1, 2 * 512 * 1024 * 2048)
    assert product.bytes == 2 * (512 * 1024 + 1024 * 2048 + 512 * 2048)
    assert product.seconds(CHIP) == max(product.bytes / CHIP.bandwidth, product.flops / CHIP.flops)


def test_a_batched_product_counts_each_of_the_batch(programs):
    product, = of_kind(programs, "batched", "gemm")
    assert product.flops == 8 * 2 * 128 * 256 * 512
    assert product.bytes == 2 * 8 * (128 * 256 + 256 * 512 + 128 * 512)


def test_a_scan_reads_a_slice_of_its_weights_for_each_layer(programs):
    product, = of_kind(programs, "scan", "gemm")
    copied = [
        kernel for kernel in table(programs, "scan").kernels if kernel.shape.startswith("bf16[1,512,512]")
    ]
    # of the layer, which a product is given that takes its slice from the stack itself
    number = 0 if copied else 4
    assert product.launches == 6 and product.flops == 2 * 256 * 512 * 512
    assert product.bytes == 2 * (256 * 512 + 512 * 512 + 256 * 512) + number
    assert all(kernel.launches == 6 and kernel.bytes == 2 * (2 * 512 * 512) + 4 for kernel in copied)
    assert product.shape.startswith("bf16[256,512]") and "s8" not in product.shape


def test_rows_that_are_set_or_looked_up_count_and_their_pool_does_not(programs):
    assert table(programs, "update").bytes == 2 * (2 * 16 * 256) + 4 * 16
    assert table(programs, "gather").bytes == 2 * (2 * 16 * 256) + 4 * 16


def test_a_loop_of_unknown_trips_is_named_and_its_body_is_a_step(programs):
    module = programs["repeated"][0]
    row, = table(programs, "repeated").loops
    step = kernel_table(module, CHIP, within=open_loop(module))
    assert row.trips == 1 and step.flops == 2 * 256**3
    assert table(programs, "repeated", trips={row.name: 9}).flops == 9 * step.flops


def test_attention_is_two_products_forward_and_five_backward(programs):
    product = 2 * 2 * 8 * 512 * 512 * 64
    forward, = of_kind(programs, "attention", "attention")
    assert forward.flops == 2 * product
    # queries, keys and values, and what comes of them
    assert forward.bytes == 2 * 2 * 512 * 64 * (8 + 4 + 4 + 8)
    assert [kernel.flops
            for kernel in of_kind(programs, "attention_gradient", "attention")] == [2 * product, 5 * product]


def test_an_all_reduce_moves_its_result_twice(programs):
    reduced, = of_kind(programs, "all_reduce", "all-reduce")
    assert reduced.link == 2 * 4 * 1024 and reduced.seconds(CHIP) == reduced.link / CHIP.link


@pytest.mark.parametrize("name", ["matmul", "batched", "scan", "gather", "attention", "all_reduce"])
def test_the_least_bytes_are_those_of_arguments_and_results(programs, name):
    module, arguments, results = programs[name]
    assert least_bytes(module) == arguments + results
