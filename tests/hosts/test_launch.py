"""Where a process finds its place in a job, and what the launch files would run."""
import os
import pathlib
import subprocess
import sys

import jax
import pytest
import yaml

from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.distributed.sharding import MeshError
from jaxrl_moe.hosts import launch
from jaxrl_moe.hosts.launch import LaunchError, find, first_node

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ["--", "scripts/train.py", "--config=a.py"]
FILES = ROOT / "scripts" / "launch"
SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NODELIST": "gpu[003-005,9],login1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "2"
}
JOBSET = {
    "JOBSET_NAME": "rl",
    "REPLICATED_JOB_NAME": "train",
    "JOBSET_PROCESSES": "4",
    "JOB_COMPLETION_INDEX": "3"
}
PLAIN = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:99", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.mark.parametrize(
    "environment, place",
    [(SLURM, ("gpu003:62344", 4, 2, "SLURM job 5000", None)),
     (SLURM | {"SLURM_NTASKS_PER_NODE": "8", "SLURM_LOCALID": "2"},
      ("gpu003:62344", 4, 2, "SLURM job 5000", (2,))),
     (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "SLURM_NODEID": "1", "SLURM_LOCALID": "2"},
      ("gpu003:62344", 4, 2, "SLURM job 5000", (2,))),
     (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2,1(x2)", "SLURM_NODEID": "2", "SLURM_LOCALID": "0"},
      ("gpu003:62344", 4, 2, "SLURM job 5000", None)),
     (JOBSET, ("rl-train-0-0.rl:8476", 4, 3, "the Kubernetes JobSet", None)),
     (PLAIN, ("10.0.0.1:99", 2, 1, "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID", None)),
     (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),
     ({}, None)])
def test_a_place_is_found_from_the_environment(environment, place):
    assert find(None, None, None, environment) == (place and launch.Membership(*place))


def test_flags_come_before_the_environment():
    assert find("a:1", 3, 2, SLURM) == launch.Membership("a:1", 3, 2, "the flags")
    assert find(None, 1, None, SLURM) is None


@pytest.mark.parametrize("flags, message", [
    (("a:1", None, 0), "--num_processes must be given"), ((None, 2, None), "--coordinator and --process_id"),
    (("a:1", 2, 2), "out of range"), (("a", 2, 0), "must be HOST:PORT")])
def test_a_place_that_is_not_whole_is_refused(flags, message):
    with pytest.raises(LaunchError, match=message):
        find(*flags, {})


def test_numbers_that_are_none_are_refused():
    with pytest.raises(LaunchError, match="no whole number .read from JAX_"):
        find(None, None, None, PLAIN | {"JAX_PROCESS_ID": "first"})


@pytest.mark.parametrize("nodes, first", [
    ("node001", "node001"), ("node001,host2", "node001"), ("node[7,9-10]", "node7"), ("n-a[01-02]", "n-a01")])
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


def test_a_mesh_must_use_every_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(MeshError, match="2 devices belong to 1 of the job's 2 processes"):
        make_placement({"data": 2})


@pytest.mark.parametrize("command, expected",
                         [([sys.executable, FILES / "local.py", "--processes=2", "--cpu_devices=3",
                            "--port=77", "--dry_run", *SCRIPT],
                           ["JAX_COORDINATOR_ADDRESS='127.0.0.1:77' JAX_NUM_PROCESSES='2' JAX_PROCESS_ID='1'",
                            "device_count=3", "scripts/train.py --config=a.py"]),
                          ([sys.executable, FILES / "ray_launch.py", "--hosts=2", "--gpus=4", "--dry_run",
                            *SCRIPT],
                           ["[{'CPU': 16, 'GPU': 4}, {'CPU': 16, 'GPU': 4}]",
                            "JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=1 python -u scripts/train.py --config=a.py"]),
                          (["bash", FILES / "slurm.sbatch", "--dry_run", "--config=a.py"],
                           ["srun --kill-on-bad-exit=1", "scripts/train.py --config=a.py"])],
                         ids=["local", "ray", "slurm"])
def test_a_dry_run_prints_what_would_run(command, expected):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    for part in expected:
        assert part in done.stdout


def test_the_jobset_gives_each_pod_the_variables_that_are_read():
    [job] = yaml.safe_load((FILES / "jobset.yaml").read_text())["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    # Kubernetes sets that one in indexed jobs
    assert set(launch.JOBSET_VARIABLES) - {"JOB_COMPLETION_INDEX"} <= variables.keys()
    assert spec["completionMode"] == "Indexed" and int(
        variables["JOBSET_PROCESSES"]) == spec["parallelism"] == spec["completions"]
    assert container["ports"] == [{"containerPort": launch.PORT}]
