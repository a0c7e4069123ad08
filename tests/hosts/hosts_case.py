"""What two processes do together, without a model: run by test_hosts.py as `hosts_case.py --coordinator=...
[--fault=...]`."""
import concurrent.futures
import os
import signal

import jax
import numpy as np
from absl import flags
from jax.sharding import PartitionSpec

from jaxrl_moe import cli
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.selftest import check_collectives
from jaxrl_moe.hosts import hosts, messages
from jaxrl_moe.hosts.meeting import Meeting
from jaxrl_moe.types import UserError

FAULTS = ["none", "grader", "second", "bug", "still0", "still1", "dead0", "dead1"]
FAULT = flags.DEFINE_enum("fault", "none", FAULTS, "which process fails, and how")


def main():
    place = make_placement({"data": 2, "tensor": -1})
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    split = jax.make_array_from_callback((4, 3), jax.NamedSharding(place.mesh, PartitionSpec("data")),
                                         values.__getitem__)
    for call in range(2 * messages.SWEEP + 3):
        assert hosts.from_leader(lambda number=call: [number, jax.process_index()]) == [call, 0]
    check_arrays()
    check_meeting()
    np.testing.assert_array_equal(hosts.fetch({"split": split})["split"], values)
    assert hosts.smallest(5 + jax.process_index()) == 5 and hosts.processes_here() == 2
    before = hosts.raised("stop", False)
    hosts.raised("stop", jax.process_index() == 1)
    hosts.smallest(0)  # all meet here, so that the flag has arrived
    assert not before and hosts.raised("stop", False)
    assert all(difference == 0 for _, _, difference in check_collectives(place))
    if FAULT.value == "grader":
        hosts.from_leader(refuse)
    if FAULT.value == "second" and not hosts.leads():
        refuse()
    if FAULT.value == "bug" and not hosts.leads():
        raise KeyError("lost")
    if FAULT.value == f"still{jax.process_index()}":
        os.kill(os.getpid(), signal.SIGSTOP)
    if FAULT.value == f"dead{jax.process_index()}":
        os.kill(os.getpid(), signal.SIGKILL)
    hosts.on_leader(lambda: None)
    if FAULT.value != "none":
        while True:  # what waits for the failing one
            hosts.barrier()
    print("all agreed")


def check_arrays():
    """Every bit arrives, in small messages and in large ones."""
    for count in (5, messages.LARGE + 7):
        # infinities and every kind of NaN among them
        bits = np.random.default_rng(count).integers(0, 2**32, count, np.uint32)
        made = {
            "odd": bits.view(np.float32),
            "rest": [bits[:0], bits.astype(np.int8).reshape(count, 1), "text", None, 0.1]
        }
        got = hosts.from_leader(lambda made=made: made)
        assert got["odd"].dtype == np.float32 and np.array_equal(got["odd"].view(np.uint32), bits)
        assert got["rest"][0].shape == (0,) and np.array_equal(
            got["rest"][1], made["rest"][1]) and got["rest"][2:] == ["text", None, 0.1]


def check_meeting():
    """Threads of process 0 have everybody compute, also one that came too early; an error of the work reaches
    all."""
    place = make_placement({"data": -1})
    add = jax.jit(lambda x: jax.numpy.sum(x), out_shardings=jax.NamedSharding(place.mesh, PartitionSpec()))

    def part(values, factor):
        split = jax.make_array_from_callback(values.shape, jax.NamedSharding(place.mesh,
                                                                             PartitionSpec("data")),
                                             values.__getitem__)
        return float(add(split)) * factor

    meeting = Meeting({"add": part})
    values = np.arange(8, dtype=np.float32)
    with concurrent.futures.ThreadPoolExecutor(5) as threads:
        early = threads.submit(meeting.together, "add", values, 10.0) if hosts.leads() else None

        def work():
            return [
                future.result() for future in
                [early, *(threads.submit(meeting.together, "add", values, 2.0 + n) for n in range(4))]
            ]
        assert meeting.hold(work) == [280.0, 56.0, 84.0, 112.0, 140.0]
        late = threads.submit(meeting.together, "add", values, 1.0) if hosts.leads() else None
        try:
            meeting.hold(lambda: int("none"))
            raise AssertionError("the error was lost")
        except (ValueError, RuntimeError) as error:
            assert "invalid literal" in str(error)
        assert meeting.hold(lambda: late.result()) == 28.0
        left = threads.submit(meeting.together, "add", values, 1.0) if hosts.leads() else None
        meeting.close()
        assert left is None or "do not meet any more" in str(left.exception())


def refuse():
    raise UserError("The grader is out of order.")


if __name__ == "__main__":
    cli.run(main, recipe=False, hosts=True)
