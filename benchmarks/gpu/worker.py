"""The process of one stage: python -m benchmarks.gpu.worker MODULE SETTINGS, started by
benchmarks/gpu/box.py."""
import importlib
import json
import os
import sys

from benchmarks.gpu.record import Recorder, Settings


def main(module: str, settings: Settings) -> None:
    from jaxrl_moe.distributed import chips
    chips.set_memory_fraction(os.environ)  # as scripts/train.py has it; before JAX asks for its first device
    importlib.import_module(module).run(Recorder(settings), settings)


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
