"""The kernels of GPU programs: launches, bytes and FLOPs, on texts written by hand."""
import dataclasses

import pytest

from jaxrl_moe.distributed.chips import CHIPS, Chip
from jaxrl_moe.planning.hlo import collective_bytes
from jaxrl_moe.planning.instructions import arrays, parse, parts
from jaxrl_moe.planning.kernels import plan as kernel_plan
from jaxrl_moe.planning.kernels.floor import Least, least_bytes
from jaxrl_moe.planning.kernels.report import kernel_lines, label
from jaxrl_moe.planning.kernels.walk import kernel_table, open_loop
from jaxrl_moe.planning.plan import Plan
from jaxrl_moe.planning.programs import NOTHING
from jaxrl_moe.types import UserError

CHIP = CHIPS["H100"]
GEMM = (
    'custom-call({}), custom_call_target="__cublas$gemm", '
    'backend_config={{"gemm_backend_config":{{"dot_dimension_numbers":'
    '{{"lhs_contracting_dimensions":["{}"],"rhs_contracting_dimensions":["{}"],"lhs_batch_dimensions":[{}]}}}}}}'
)
COMPARE = """
%go_on (c: (s32[], f32[8])) -> pred[] {
  %c = (s32[], f32[8]{0}) parameter(0)
  %step = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] fusion(%step), kind=kLoop, calls=%fused_less
}

%fused_less (p: s32[]) -> pred[] {
  %p = s32[] parameter(0)
  %end = s32[] constant(3)
  ROOT %lt = pred[] compare(%p, %end), direction=LT
}
"""


def program(entry: str, others: str = "") -> str:
    return f"HloModule m\n{others}\nENTRY %main (x: f32[8]) -> f32[8] {{\n{entry}\n}}\n"


def kernels(entry: str, others: str = "", **options) -> dict:
    table = kernel_table(parse(program(entry, others)), CHIP, **options)
    return {kernel.name: kernel for kernel in table.kernels}


def body(name: str, lines: str) -> str:
    return f"\n%{name} (c: (s32[], f32[8])) -> (s32[], f32[8]) {{\n  %c = (s32[], f32[8]{{0}}) parameter(0)\n{lines}\n}}\n"


def loop(name: str, of: str, trips: int | None) -> str:
    known = f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}' if trips else ""
    return f"  %{name} = (s32[], f32[8]{{0}}) while(%c), condition=%go_on, body=%{of}{known}"


INNER = body("inner", "  %v = f32[8]{0} get-tuple-element(%c), index=1\n  ROOT %doubled = f32[8]{0} copy(%v)")
ENTRY = "  %c = (s32[], f32[8]{0}) parameter(0)\n"


def test_loops_within_loops_multiply_and_the_condition_of_a_counted_loop_launches_nothing():
    outer = body("outer", "  %own = s32[] copy(%c)\n" + loop("within", "inner", 5))
    found = kernels(ENTRY + loop("around", "outer", 3), INNER + outer + COMPARE)
    assert {name: kernel.launches for name, kernel in found.items()} == {"own": 3, "doubled": 15}


def test_a_loop_of_unknown_trips_is_listed_and_counts_the_trips_that_are_assumed():
    outer = body("outer", loop("within", "inner", None))
    module = parse(program(ENTRY + loop("around", "outer", 3), INNER + outer + COMPARE))
    once = kernel_table(module, CHIP)
    often = kernel_table(module, CHIP, trips={"within": 7})
    assert once.loops == (("within", "", 3, 1, 2),) and once.launches == 3 * (1 + 2)
    assert often.loops[0].trips == 7 and often.launches == 3 * (7 + 8) == kernel_table(module, CHIP,
                                                                                       trips=7).launches
    with pytest.raises(ValueError, match="around: there are within"):
        kernel_table(module, CHIP, trips={"around": 2})


def test_one_step_is_the_body_of_the_only_open_loop_at_the_top():
    module = parse(program(ENTRY + loop("steps", "inner", None), INNER + COMPARE))
    assert open_loop(module) == "inner" and kernel_table(module, CHIP, within="inner").launches == 1
    assert open_loop(parse(program(ENTRY + loop("steps", "inner", 4), INNER + COMPARE))) is None


def test_a_slice_of_a_stack_counts_the_slice_and_a_gather_its_rows():
    fused = """
%fused (stack: bf16[6,64,32], at: s32[], table: f32[1000,32], rows: s32[64]) -> bf16[1,64,32] {
  %stack = bf16[6,64,32]{2,1,0} parameter(0)
  %at = s32[] parameter(1)
  %table = f32[1000,32]{1,0} parameter(2)
  %rows = s32[64]{0} parameter(3)
  %none = s32[] constant(0)
  %layer = bf16[1,64,32]{2,1,0} dynamic-slice(%stack, %at, %none, %none), dynamic_slice_sizes={1,64,32}
  %looked_up = f32[64,32]{1,0} gather(%table, %rows), slice_sizes={1,32}
  %rounded = bf16[64,32]{1,0} convert(%looked_up)
  %shaped = bf16[1,64,32]{2,1,0} bitcast(%rounded)
  ROOT %sum = bf16[1,64,32]{2,1,0} add(%layer, %shaped)
}
"""
    entry = "\n".join(
        ["  %a = bf16[6,64,32]{2,1,0} parameter(0)", "  %b = s32[] parameter(1)",
         "  %c = f32[1000,32]{1,0} parameter(2)", "  %d = s32[64]{0} parameter(3)",
         "  ROOT %sums = bf16[1,64,32]{2,1,0} fusion(%a, %b, %c, %d), kind=kLoop, calls=%fused"])
    assert kernels(entry, fused)["sums"].bytes == 2 * 2048 + 4 + 4 * 2048 + 4 * 64 + 2 * 2048


@pytest.mark.parametrize("buffer, moved", [("%pool", 0), ("%zeros", 4 * (1024 - 64))])
def test_an_update_of_an_argument_counts_the_update_alone(buffer, moved):
    fused = f"""
%fused (pool: f32[16,64], row: f32[64], at: s32[]) -> f32[16,64] {{
  %pool = f32[16,64]{{1,0}} parameter(0)
  %row = f32[64]{{0}} parameter(1)
  %at = s32[] parameter(2)
  %none = s32[] constant(0)
  %nothing = f32[] constant(0)
  %zeros = f32[16,64]{{1,0}} broadcast(%nothing), dimensions={{}}
  %shaped = f32[1,64]{{1,0}} bitcast(%row)
  ROOT %changed = f32[16,64]{{1,0}} dynamic-update-slice({buffer}, %shaped, %at, %none)
}}
"""
    entry = "\n".join(["  %a = f32[16,64]{1,0} parameter(0)", "  %b = f32[64]{0} parameter(1)",
                       "  %c = s32[] parameter(2)",
                       "  ROOT %kept = f32[16,64]{1,0} fusion(%a, %b, %c), kind=kLoop, calls=%fused"])
    assert kernels(entry, fused)["kept"].bytes == 4 * 64 + 4 + 4 * 64 + moved


def test_a_scatter_that_adds_reads_what_it_changes():
    text = """
%{0} (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] {1}
}}
"""
    entry = "\n".join(["  %pool = f32[1000,8]{1,0} parameter(0)", "  %at = s32[4,1]{1,0} parameter(1)",
                       "  %rows = f32[4,8]{1,0} parameter(2)",
                       "  %sum = f32[1000,8]{1,0} scatter(%pool, %at, %rows), to_apply=%plus",
                       "  ROOT %set = f32[1000,8]{1,0} scatter(%sum, %at, %rows), to_apply=%second"])
    found = kernels(entry, text.format("plus", "add(%a, %b)") + text.format("second", "parameter(1)"))
    assert found["set"].bytes == 4 * (4 + 32 + 32) and found["sum"].bytes == found["set"].bytes + 4 * 32


def test_a_fusion_within_a_fusion_and_a_call_count_what_is_inside():
    others = """
%inner (stack: f32[6,32], at: s32[]) -> f32[1,32] {
  %stack = f32[6,32]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %none = s32[] constant(0)
  ROOT %row = f32[1,32]{1,0} dynamic-slice(%stack, %at, %none), dynamic_slice_sizes={1,32}
}

%outer (number: s32[], pool: f32[6,32]) -> f32[1,32] {
  %number = s32[] parameter(0)
  %pool = f32[6,32]{1,0} parameter(1)
  %taken = f32[1,32]{1,0} fusion(%pool, %number), kind=kLoop, calls=%inner
  ROOT %away = f32[1,32]{1,0} negate(%taken)
}

%captured (n: s32[], p: f32[6,32]) -> f32[1,32] {
  %n = s32[] parameter(0)
  %p = f32[6,32]{1,0} parameter(1)
  ROOT %taken_away = f32[1,32]{1,0} fusion(%n, %p), kind=kLoop, calls=%outer
}
"""
    entry = "\n".join(["  %a = s32[] parameter(0)", "  %b = f32[6,32]{1,0} parameter(1)",
                       "  ROOT %graph = f32[1,32]{1,0} call(%a, %b), to_apply=%captured"])
    assert {
        name: kernel.bytes for name, kernel in kernels(entry, others).items()
    } == {
        "taken_away": 4 + 4 * 32 + 4 * 32
    }


def test_every_result_of_a_fusion_is_written_and_scalars_cost_nothing():
    fused = """
%fused (x: bf16[128]) -> (f32[128], bf16[128]) {
  %x = bf16[128]{0} parameter(0)
  %half = bf16[] constant(0.5)
  %halves = bf16[128]{0} broadcast(%half), dimensions={}
  %product = bf16[128]{0} multiply(%x, %halves)
  %wide = f32[128]{0} convert(%x)
  ROOT %both = (f32[128]{0}, bf16[128]{0}) tuple(%wide, %product)
}
"""
    entry = "  %x = bf16[128]{0} parameter(0)\n  ROOT %y = (f32[128]{0}, bf16[128]{0}) fusion(%x), kind=kLoop, calls=%fused"
    assert kernels(entry, fused)["y"].bytes == 2 * 128 + 4 * 128 + 2 * 128


def test_a_product_counts_its_batch_and_not_its_scratch_memory():
    entry = "\n".join(["  %a = bf16[8,16,32]{2,1,0} parameter(0)", "  %b = bf16[8,32,64]{2,1,0} parameter(1)",
                       "  ROOT %ab = (f32[8,16,64]{2,1,0}, s8[33554432]{0}) " + GEMM.format(
                           "%a, %b", 2, 1, '"0"')])
    found = kernels(entry)["ab"]
    assert (found.kind, found.flops) == ("gemm", 2 * 8 * 16 * 32 * 64)
    assert found.bytes == 2 * 8 * 16 * 32 + 2 * 8 * 32 * 64 + 4 * 8 * 16 * 64


def test_a_product_that_is_fused_with_the_slice_of_its_stack_reads_the_slice():
    fused = """
%fused (x: f32[4,8], stack: f32[6,8,8], at: s32[]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %stack = f32[6,8,8]{2,1,0} parameter(1)
  %at = s32[] parameter(2)
  %none = s32[] constant(0)
  %layer = f32[1,8,8]{2,1,0} dynamic-slice(%stack, %at, %none, %none), dynamic_slice_sizes={1,8,8}
  %weights = f32[8,8]{1,0} bitcast(%layer)
  %call = (f32[4,8]{1,0}, s8[1024]{0}) """ + GEMM.format("%x, %weights", 1, 0, "") + """
  ROOT %product = f32[4,8]{1,0} get-tuple-element(%call), index=0
}
"""
    entry = "\n".join(["  %x = f32[4,8]{1,0} parameter(0)", "  %w = f32[6,8,8]{2,1,0} parameter(1)",
                       "  %i = s32[] parameter(2)",
                       "  ROOT %y = f32[4,8]{1,0} fusion(%x, %w, %i), kind=kCustom, calls=%fused"])
    found = kernels(entry, fused)["y"]
    assert (found.kind, found.flops, found.bytes) == ("gemm", 2 * 4 * 8 * 8, 4 * (32 + 64 + 1 + 32))


def test_products_and_convolutions_in_fusions_count():
    fused = """
%fused (x: f32[4,8], w: f32[8,16], image: f32[1,10,10,3], window: f32[3,3,3,5]) -> (f32[4,16], f32[1,10,10,5]) {
  %x = f32[4,8]{1,0} parameter(0)
  %w = f32[8,16]{1,0} parameter(1)
  %image = f32[1,10,10,3]{3,2,1,0} parameter(2)
  %window = f32[3,3,3,5]{3,2,1,0} parameter(3)
  %xw = f32[4,16]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %seen = f32[1,10,10,5]{3,2,1,0} convolution(%image, %window), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
  ROOT %both = (f32[4,16]{1,0}, f32[1,10,10,5]{3,2,1,0}) tuple(%xw, %seen)
}
"""
    entry = "\n".join(["  %a = f32[4,8]{1,0} parameter(0)", "  %b = f32[8,16]{1,0} parameter(1)",
                       "  %c = f32[1,10,10,3]{3,2,1,0} parameter(2)",
                       "  %d = f32[3,3,3,5]{3,2,1,0} parameter(3)",
                       "  ROOT %y = (f32[4,16]{1,0}, f32[1,10,10,5]{3,2,1,0}) fusion(%a, %b, %c, %d), "
                       "kind=kLoop, calls=%fused"])
    assert kernels(entry, fused)["y"].flops == 2 * 4 * 8 * 16 + 2 * (10 * 10 * 5) * (3 * 3 * 3)


BRANCHES = """
%cheap (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %same = f32[8]{0} copy(%x)
}

%dear (z: f32[8]) -> f32[8] {
  %z = f32[8]{0} parameter(0)
  %first = f32[8]{0} copy(%z)
  ROOT %last = f32[8]{0} copy(%first)
}
"""


@pytest.mark.parametrize("named",
                         ["branch_computations={%cheap, %dear, %cheap}",
                          "true_computation=%cheap, false_computation=%dear"])
def test_of_a_conditional_the_dearest_branch_counts(named):
    entry = f"  %x = f32[8]{{0}} parameter(0)\n  ROOT %c = f32[8]{{0}} conditional(%x, %x, %x), {named}"
    table = kernel_table(parse(program(entry, BRANCHES)), CHIP)
    assert [kernel.name for kernel in table.kernels] == ["first", "last"]
    assert table.branchings[0].seconds[:2] == pytest.approx((64 / CHIP.bandwidth, 128 / CHIP.bandwidth))


STARTS = """  %x = bf16[4,8]{1,0} parameter(0)
  %ag = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%x), replica_groups={{0,1,2,3}}, dimensions={0}
  %ag2 = bf16[16,8]{1,0} all-gather-done(%ag)
  %rs = ((bf16[16,8]{1,0}), bf16[4,8]{1,0}) reduce-scatter-start(%ag2), replica_groups={{0,1,2,3}}, to_apply=%add
  %rs2 = bf16[4,8]{1,0} reduce-scatter-done(%rs)
  %ar = bf16[4,8]{1,0} all-reduce-start(%rs2), replica_groups={{0},{1},{2},{3}}, to_apply=%add
  ROOT %ar2 = bf16[4,8]{1,0} all-reduce-done(%ar)"""


def test_a_collective_that_only_starts_moves_its_result_and_counts_once():
    found = kernels(STARTS)
    assert {
        name: (kernel.kind, kernel.link, kernel.bytes) for name, kernel in found.items()
    } == {
        "ag": ("all-gather", 256, 64 + 256),
        "rs": ("reduce-scatter", 64, 256 + 64),
        "ar": ("all-reduce", 0, 64 + 64)
    }
    assert {
        kind: size for kind, size in collective_bytes(program(STARTS)).items() if size
    } == {
        "all-gather": 256,
        "reduce-scatter": 64
    }


@pytest.mark.parametrize("groups, moved",
                         [("mesh['x'=4,'y'=1] {'x'}", 64),
                          ("mesh['x'=4,'y'=1] {'y'}", 0),
                          ("[2,2]<=[4]", 64),
                          ("mesh['x'=4] {'x':(1)2}", 64),
                          ("[4,1]<=[4]", 0),
                          ("{{0,1},{2,3}}", 64),
                          ("{}", 64)])
def test_a_collective_within_a_fusion_moves_what_its_groups_need(groups, moved):
    fused = f"""
%fused (x: f32[8]) -> f32[8] {{
  %x = f32[8]{{0}} parameter(0)
  ROOT %sum = f32[8]{{0}} all-reduce(%x), replica_groups={groups}, to_apply=%add
}}
"""
    entry = """  %x = f32[8]{0} parameter(0)
  %start = ((f32[8]{0}), f32[8]{0}) fusion-start(%x), kind=kCustom, calls=%fused
  ROOT %done = f32[8]{0} fusion-done(%start)"""
    start, = kernels(entry, fused).values()
    assert (start.kind, start.bytes, start.link) == ("all-reduce", 64, moved)
    assert collective_bytes(program(entry, fused))["all-reduce"] == moved


CALL = """  %x = bf16[8]{0} parameter(0)
  ROOT %k = bf16[8]{0} custom-call(%x), custom_call_target="mosaic_gpu_v2", metadata={op_name="jit(f)/experts/grouped"}"""


def test_flops_that_only_a_call_knows_are_unknown_until_they_are_given():
    assert kernels(CALL)["k"].flops is None and kernels(CALL)["k"].bytes == 32
    for name in ("k", "jit(f)/experts/grouped", "mosaic_gpu_v2"):
        assert kernels(CALL, flops={name: 512.0})["k"].flops == 512


def test_an_array_in_the_memory_of_the_host_takes_none_of_the_device():
    entry = "  %x = f32[8]{0} parameter(0)\n  ROOT %c = (f32[8]{0:S(5)}, f32[8]{0}, u32[]) copy-start(%x)"
    assert kernels(entry)["c"].bytes == 32 and kernels(entry)["c"].kind == "copy"


def test_the_floor_reads_what_is_used_and_writes_what_is_made():
    entry = "\n".join(["  %x = f32[8]{0} parameter(0)", "  %unused = f32[100]{0} parameter(1)",
                       "  %y = f32[8]{0} copy(%x)",
                       "  ROOT %both = (f32[8]{0}, f32[100]{0}) tuple(%y, %unused)"])
    assert least_bytes(parse(program(entry))) == 64
    least = Least(20.0, 30.0)
    chip = Chip(10.0, 1.0, 10.0, 1.0)
    assert (least.seconds(chip), least.bound(chip), Least(40.0,
                                                          30.0).bound(chip)) == (3.0, "memory", "products")


def test_the_report_says_what_is_dear_and_what_it_does_not_know():
    outer = body("outer", loop("within", "inner", None))
    module = parse(
        program(ENTRY + loop("around", "outer", 3) + "\n" + CALL.replace("%x", "%w"),
                INNER + outer + COMPARE))
    table = kernel_table(module, CHIP)
    chip = Chip(1e3, 1.0, 1e3, 1.0)
    text = "\n".join(kernel_lines(table, chip, "a step", Least(0.0, 32.0), launch=1e-3, count=2))
    first, _, dearest, *_ = text.splitlines()
    assert first.startswith(
        "a step: 10 kernels, ") and "1000 us assumed for each launch; floor 32 ms (memory), " in first
    assert dearest.split()[:4] == ["195", "ms", "73.9%", "3"] and dearest.endswith("doubled, copy, f32[8]")
    assert "trips unknown: within, , entered 3 times, counted with 1 trip of 2 kernels each" in text
    assert "FLOPs unknown, counted as none: 1 launches of mosaic_gpu_v2" in text and "1 other groups" in text


@pytest.mark.parametrize("source, said",
                         [("jit(f)/jvp()/while/body/closed_call/jit(silu)/mul", "silu/mul"),
                          ("jit(f)/transpose(jvp(Attention))/while/body/dot_general;jit(f)/copy",
                           "Attention/dot_general (backward)"),
                          ("jit(f)/transpose(jvp())/while/body/checkpoint/rematted_computation/gather",
                           "gather (recomputed)"),
                          ("jit(f)/cond/branch_1_fun", ""),
                          ("", "")])
def test_a_kernel_is_called_by_what_it_comes_from(source, said):
    assert label(source) == said


def test_types_are_read_with_their_layouts():
    assert parts("((f32[4,2]{1,0}), bf16[8]{0:T(8,128)(2,1)S(1)}, /*index=5*/u4[3]{0})") == (
        "(f32[4,2]{1,0})", "bf16[8]{0:T(8,128)(2,1)S(1)}", "/*index=5*/u4[3]{0}")
    assert [array.bytes() for array in arrays("(f32[4,2]{1,0}, /*index=5*/u4[3]{0}, pred[], token[], "
                                              "f8e4m3fn[7]{0})")] == [32, 2, 1, 0, 7]


def test_kernels_are_refused_where_nothing_compiles_for_a_gpu(monkeypatch):
    monkeypatch.setattr(kernel_plan.target, "installed", lambda: False)
    with pytest.raises(UserError, match="make target"):
        kernel_plan.check(CHIP, "H100")
    monkeypatch.setattr(kernel_plan.target, "installed", lambda: True)
    with pytest.raises(UserError, match="architecture"):
        kernel_plan.check(Chip(1.0, 1.0, 1.0, 1.0), "mine")
    kernel_plan.check(CHIP, "H100")


def planned(text: str) -> Plan:
    """A plan of programs that have this text, and of a decode loop; what else it needs is 0."""
    steps = program(ENTRY + loop("steps", "inner", None), INNER + COMPARE) if text else ""
    figures = {"devices": 2, "flops": 8e12, "active_bytes": 300, "kv": 100, "slots": 4, "tokens": 1000}
    texts = {"gradients": text, "apply": text, "decode": steps}
    nothing = {field.name: 0 for field in dataclasses.fields(Plan)}
    return Plan(**nothing | figures | {name: NOTHING._replace(text=found) for name, found in texts.items()})


def test_a_plan_has_the_tables_of_a_micro_batch_of_the_optimiser_and_of_one_decode_step():
    found = kernel_plan.tables(planned(program(CALL)), CHIP)
    assert [title for title, _, _ in found] == ["micro-batch of 1,000 tokens", "optimiser step",
                                                "one decode step of 4 slots"]
    assert [table.launches for _, table, _ in found] == [1, 1, 1]
    assert [least for _, _, least in found] == [(4e12, 32), (0.0, 32), (0.0, 350.0)]
    assert kernel_plan.lines(planned(program(CALL)), CHIP, "H100")[0].startswith(
        "micro-batch of 1,000 tokens on H100: 1 kernels")


def test_a_plan_that_was_derived_on_a_cpu_has_no_kernels():
    with pytest.raises(UserError, match="compiled for a CPU"):
        kernel_plan.tables(planned(""), CHIP)
