"""What scripts/models.py says of known checkpoints: parameters and bytes by arithmetic of one's own."""
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from jaxrl_moe.model.families.registry import architectures
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.planning.catalogue import catalogue, checkpoint
from jaxrl_moe.planning.fits import Demand, fit, mesh_sizes
from jaxrl_moe.planning.listing import architecture_lines, checkpoint_lines, explanation
from jaxrl_moe.types import UserError

ROOT = pathlib.Path(__file__).parents[2]
SHAPES = ROOT / "configs" / "shapes"
KNOWN = {each.name: each for each in catalogue(SHAPES)}
# As the makers publish them, in billions: all parameters, those without embeddings, and active ones.
PUBLISHED = {
    "Qwen/Qwen3-0.6B": (0.6, 0.44, None), "Qwen/Qwen3-1.7B": (1.7, 1.4, None),
    "Qwen/Qwen3-4B": (4.0, 3.6, None), "Qwen/Qwen3-8B": (8.2, 6.95, None),
    "Qwen/Qwen3-14B": (14.8, 13.2, None), "Qwen/Qwen3-32B": (32.8, 31.2, None),
    "Qwen/Qwen3-30B-A3B": (30.5, 29.9, 3.3),
    "Qwen/Qwen3-235B-A22B": (235, 234, 22), "Qwen/Qwen3-Coder-480B-A35B-Instruct": (480, None, 35)}
FLAGSHIP = "Qwen/Qwen3-30B-A3B"
GIB = 2**30


def by_hand(path):
    """(all, active, embeddings, router) parameters of a Qwen3 config.json."""
    it = json.loads(path.read_text())
    d = it["hidden_size"]
    q = it["num_attention_heads"] * it["head_dim"]
    kv = it["num_key_value_heads"] * it["head_dim"]
    attention = d * q + 2 * d * kv + q * d + 2 * it["head_dim"] + 2 * d
    experts = it.get("num_experts", 0)
    router = d * experts
    expert = 3 * d * (it["moe_intermediate_size"] if experts else it["intermediate_size"])
    embeddings = it["vocab_size"] * d * (1 if it["tie_word_embeddings"] else 2)
    layers = it["num_hidden_layers"]
    outer = embeddings + d
    every = outer + layers * (attention + router + expert * max(1, experts))
    active = outer + layers * (attention + router + expert * it.get("num_experts_per_tok", 1))
    return every, active, embeddings, layers * router


def path_of(name):
    return next(path for path in SHAPES.glob("*.json") if checkpoint(path).name == name)


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_counted_by_hand_and_as_published(name):
    every, active, embeddings, router = by_hand(path_of(name))
    each = KNOWN[name]
    assert (each.parameters, each.active_parameters) == (every, active)
    assert each.bytes == 2 * every + 2 * router  # routers are float32
    if name in PUBLISHED:
        whole, without, met = (number and number * 1e9 for number in PUBLISHED[name])
        assert every == pytest.approx(whole, rel=0.02)
        assert without is None or every - embeddings == pytest.approx(without, rel=0.03)
        assert met is None or active == pytest.approx(met, rel=0.03)


def test_all_published_checkpoints_are_listed():
    assert set(PUBLISHED) <= set(KNOWN)


def arrays_by_hand(path, rank, context, slots):
    """Bytes of LoRA on all linear layers, on one device."""
    it = json.loads(path.read_text())
    d = it["hidden_size"]
    q = it["num_attention_heads"] * it["head_dim"]
    kv = it["num_key_value_heads"] * it["head_dim"]
    f = it["moe_intermediate_size"]
    # an adapter of a matrix n x m has rank * (n + m) numbers; q, k, v and o, then gate, up and down of each
    # expert
    layer = rank * ((d + q) + 2 * (d + kv) + (q + d) + 3 * (d + f) * it["num_experts"])
    layers = it["num_hidden_layers"]
    adapters = 4 * layer * layers
    kept = 2 * context * d * layers  # a layer's input
    token = 2 * 2 * kv * layers
    return {"trained": adapters, "gradient": adapters, "optimiser": 2 * adapters, "kept": kept,
            "kv": token * (slots * context + 512 + 32)}  # one more prompt, and the trash page


def test_what_a_device_must_hold_is_what_comes_out_by_hand():
    each = KNOWN[FLAGSHIP]
    one = fit(each, "", "lora", Demand(4096, 4, 16), jax.devices())
    expected = arrays_by_hand(path_of(FLAGSHIP), 16, 4096, 4)
    assert {name: getattr(one.plan, name) for name in expected} == expected
    assert one.plan.frozen == each.bytes
    resident = each.bytes + expected["trained"] + expected["optimiser"]
    assert one.least == resident + max(expected["gradient"] + expected["kept"], expected["kv"])
    assert one.left(131 * GIB) == 131 * GIB - one.least and one.left(60 * GIB) is None


def test_all_weights_of_30b_take_more_than_one_h200_and_less_than_eight():
    each = KNOWN[FLAGSHIP]
    alone = fit(each, "", "full", Demand(), jax.devices())
    # float32: the weights, their gradient and two moments; and the copy that is computed with
    assert alone.least > 16 * each.parameters and alone.left(131 * GIB) is None
    together = fit(each, "fsdp=8", "full", Demand(), jax.devices())
    assert together.left(131 * GIB) > 0
    assert together.plan.trained == pytest.approx(alone.plan.trained / 8, rel=0.01)


def test_experts_split_over_their_axis_alone():
    each = KNOWN[FLAGSHIP]
    demand = Demand()
    alone, split = (fit(each, mesh, "lora", demand, jax.devices()) for mesh in ("", "expert=8"))
    it = json.loads(path_of(FLAGSHIP).read_text())
    experts = 2 * 3 * it["hidden_size"] * it["moe_intermediate_size"] * 128 * it["num_hidden_layers"]
    assert alone.plan.frozen - split.plan.frozen == experts * 7 // 8


@pytest.mark.parametrize("mesh, parts", [("data=2", 1), ("fsdp=2,expert=4", 1), ("context=4", 4),
                                         ("tensor=2,context=2,data=2", 2)])
@pytest.mark.parametrize("context, row", [(4096, 4096), (1001, 1024)])  # rows are filled up
def test_a_device_keeps_its_part_of_a_sequence_whatever_the_mesh(mesh, parts, context, row):
    each = KNOWN[FLAGSHIP]
    one = fit(each, mesh, "lora", Demand(context), jax.devices())
    assert one.plan.kept == row // parts * 2 * each.config.hidden_size * each.config.num_layers


def test_a_mesh_that_a_model_cannot_be_split_over_is_said_and_does_not_hide_the_others():
    dense = fit(KNOWN["Qwen/Qwen3-8B"], "expert=2", "lora", Demand(), jax.devices())
    assert dense.least is None and dense.left(131 * GIB) is None and "dense model" in dense.refused
    assert any("dense model" in line for line in explanation([dense], Demand(), 131 * GIB))


@pytest.mark.parametrize("mesh", ["fsdp=-1", "fsdp=0", "fsd=2", "fsdp=2,fsdp=2", "x"])
def test_a_mesh_that_is_none_is_refused(mesh):
    with pytest.raises(UserError):
        mesh_sizes(mesh)


def test_files_that_say_the_same_checkpoint_are_refused_and_a_nameless_one_is_called_as_its_file(tmp_path):
    text = (SHAPES / "qwen3_8b.json").read_text()
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(OutsideError, match="Qwen/Qwen3-8B"):
        catalogue(tmp_path)
    (tmp_path / "own").mkdir()
    nameless = {key: value for key, value in json.loads(text).items() if key != "_name_or_path"}
    for name, expected in (("own/config.json", "own"), ("own/mine.json", "mine")):
        (tmp_path / name).write_text(json.dumps(nameless))
        assert checkpoint(tmp_path / name).name == expected


def models(*options):
    return subprocess.run([sys.executable, "scripts/models.py", *options], cwd=ROOT, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)


def test_the_table_says_what_is_left_where_something_is():
    known = [KNOWN[FLAGSHIP], KNOWN["Qwen/Qwen3-0.6B"]]
    rows = [(each, [fit(each, mesh, "full", Demand(), jax.devices()) for mesh in ("", "expert=8")])
            for each in known]
    heading, large, small = checkpoint_lines(rows, 131 * GIB)
    assert re.search("full, one device +full, expert=8$", heading)
    assert len(heading) == len(large) == len(small)
    assert "30.53 B" in large and "3.35 B" in large and f"{rows[0][1][0].least / GIB:.1f}, no" in large
    left = 131 - rows[1][1][0].least / GIB
    assert f"{left:.1f} left" in small and small.endswith("not so")
    assert all(any(name in line for line in architecture_lines()) for name in architectures())


def test_the_script_prints_names_json_and_refusals():
    names = models("--names").stdout.split()
    assert names == sorted(names, key=lambda name: KNOWN[name].parameters) and set(names) == set(KNOWN)
    options = (f"--model_config={path_of(FLAGSHIP)}", "--mesh=fsdp=2,expert=4", "--device_gib=131")
    told = models(*options, "--json")
    (row,) = json.loads(told.stdout)
    assert row["parameters"] == KNOWN[FLAGSHIP].parameters
    assert [(each["mesh"], each["way"], each["devices"]) for each in row["fits"]] == [
        ("fsdp=2,expert=4", "lora", 8), ("fsdp=2,expert=4", "full", 8)]
    assert row["fits"][0]["left_bytes"] == 131 * GIB - row["fits"][0]["least_bytes"]
    refused = models("--mesh=fsdp=100000", "--chip=H100")
    assert refused.returncode == 1 and "100,000 devices" in refused.stderr
    assert "Traceback" not in refused.stderr
