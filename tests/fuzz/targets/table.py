"""All targets by name."""
from tests.fuzz.targets import (
    adapters,
    buffers,
    commands,
    envs,
    judges,
    kernels,
    models,
    rollouts,
    rows,
    runs,
    serving,
    sessions,
    settings,
)

MODULES = (models, adapters, rows, runs, serving, sessions, envs, rollouts, judges, kernels, buffers,
           settings, commands)
TARGETS = {target.name: target for module in MODULES for target in module.TARGETS}
