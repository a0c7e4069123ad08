"""What two processes do together, without a model: run by test_hosts.py as `hosts_case.py --coordinator=... [--fault=...]`."""
import jax
import numpy as np
from absl import flags
from jax.sharding import PartitionSpec

from jaxrl_moe import cli
from jaxrl_moe.distributed import hosts
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.selftest import check_collectives
from jaxrl_moe.types import UserError

FAULT = flags.DEFINE_enum("fault", "none", ["none", "grader", "second", "bug"], "which process fails, and how")


def main():
    place = make_placement({"data": 2, "tensor": -1})
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    split = jax.make_array_from_callback((4, 3), jax.NamedSharding(place.mesh, PartitionSpec("data")), values.__getitem__)
    for call in range(2 * hosts.SWEEP + 3):
        assert hosts.from_leader(lambda number=call: [number, jax.process_index()]) == [call, 0]
    np.testing.assert_array_equal(hosts.fetch({"split": split})["split"], values)
    assert hosts.smallest(5 + jax.process_index()) == 5
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
    hosts.on_leader(lambda: None)
    if FAULT.value != "none":
        while True:  # what waits for the failing one
            hosts.barrier()
    print("all agreed")


def refuse():
    raise UserError("The grader is out of order.")


if __name__ == "__main__":
    cli.run(main, recipe=False, hosts=True)
