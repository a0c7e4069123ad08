"""A verdict over the wire is the verdict; what is none is refused."""
import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_moe.envs.kernels.verdicts.told import heard, said
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.outside import OutsideError

MS = st.floats(1e-6, 1e6)
TIMINGS = st.builds(Timing, MS, MS, MS, st.integers(1, 10_000), st.none() | MS, st.none() | MS, st.text())
FAILED = st.builds(
    Verdict, st.sampled_from(Basis), compiled=st.booleans(), fault=st.sampled_from(Fault), message=st.text(),
    trials=st.integers(0, 100), target=st.sampled_from(["", "sm_90"]), timing=st.none() | TIMINGS,
    quarantined=st.booleans())
RIGHT = st.builds(
    Verdict, st.sampled_from([Basis.INTERPRETER, Basis.DEVICE]), compiled=st.just(True),
    correct=st.just(True), message=st.text(), trials=st.integers(0, 100),
    target=st.sampled_from(["", "sm_90"]),
    timing=st.none() | TIMINGS, quarantined=st.booleans())
TIMED = Verdict(Basis.DEVICE, compiled=True, correct=True, trials=5, target="sm_90",
                timing=Timing(2.0, 1.5, 3.0, 100, 5.0, 4.0))


@settings(max_examples=60, deadline=None)
@given(FAILED | RIGHT)
def test_a_verdict_is_heard_as_it_was_said(verdict):
    assert heard(json.loads(json.dumps(said(verdict), allow_nan=False))) == verdict


def test_a_timed_verdict_is_told_in_the_fields_that_clients_of_kernelbench_read():
    assert said(TIMED) == {
        "compiled": True, "correctness": True, "runtime": 2.0,
        "runtime_stats": {"median": 2.0, "min": 1.5, "max": 3.0, "num_trials": 100},
        "metadata": {"basis": "device", "fault": None, "message": "", "trials": 5, "target": "sm_90",
                     "quarantined": False, "speedup": 2.0, "baseline_eager_ms": 5.0,
                     "baseline_compiled_ms": 4.0, "baseline_missing": ""}}


def test_a_verdict_without_a_timing_has_a_runtime_of_minus_one():
    told = said(Verdict(Basis.SOURCE, fault=Fault.REFUSED, message="line 1: no"))
    assert (told["runtime"], told["runtime_stats"]) == (-1.0, {})
    assert told["metadata"]["speedup"] is None and told["metadata"]["fault"] == "refused"


def test_a_timing_without_a_baseline_says_why_and_has_no_speed_up():
    told = said(Verdict(Basis.DEVICE, compiled=True, correct=True,
                        timing=Timing(2.0, 2.0, 2.0, 3, None, None, "torch.compile fails")))
    about = told["metadata"]
    assert told["runtime"] == 2.0 and about["speedup"] is None
    assert about["baseline_missing"] == "torch.compile fails"


@pytest.mark.parametrize("path, value", [
    (("compiled",), 1), (("compiled",), None), (("correctness",), "true"), (("metadata",), None),
    (("metadata",), []), (("metadata", "basis"), None), (("metadata", "basis"), "magic"),
    (("metadata", "fault"), "tired"), (("metadata", "trials"), -1), (("metadata", "trials"), 2.5),
    (("runtime",), 0), (("runtime",), -2.0), (("runtime",), math.nan), (("runtime",), "2"),
    (("runtime_stats",), [1]), (("runtime_stats", "min"), 0), (("runtime_stats", "num_trials"), 0),
    (("metadata", "baseline_eager_ms"), -4.0), (("metadata", "baseline_compiled_ms"), 0),
    (("metadata", "quarantined"), "no"), (("metadata", "message"), 3),
    # what contradicts the rest
    (("compiled",), False), (("correctness",), False), (("metadata", "fault"), "mismatch"),
    (("metadata", "basis"), "source")])
def test_what_is_no_verdict_is_refused(path, value):
    told = copy.deepcopy(said(TIMED))
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(OutsideError, match="The answer"):
        heard(told, "The answer")


def test_fields_of_other_servers_do_not_disturb():
    told = said(TIMED)
    told["metadata"] |= {"hardware": "NVIDIA H100", "device": "cuda:0"}
    assert heard(told | {"device": 0}) == TIMED
