"""One setting of glibc's allocator for every benchmarked process: large pages, and memory that stays with the
process.

By default glibc maps each large buffer anew and unmaps it when it is freed; in a virtual machine the kernel
may have given the pages back to the host by then, and a step that touches a gigabyte waits up to as long as
it computes. Here freed memory stays in one arena for the next step. It must stand in the environment before
the process starts.
"""
import os
import subprocess
import sys

TUNABLES = ("glibc.malloc.hugetlb=1", "glibc.malloc.arena_max=1", "glibc.malloc.mmap_max=0",
            "glibc.malloc.trim_threshold=17179869184")


def started_with_tunables() -> bool:
    return sys.platform != "linux" or os.environ.get("GLIBC_TUNABLES") == ":".join(TUNABLES)


def start_again() -> int:
    """Runs this very command in a child with the setting; returns its exit status."""
    return subprocess.call([sys.executable, *sys.argv],
                           env=os.environ | {"GLIBC_TUNABLES": ":".join(TUNABLES)})
