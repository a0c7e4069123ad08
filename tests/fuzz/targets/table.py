"""All targets by name."""
from tests.fuzz.targets import adapters, commands, envs, models, rows, runs, serving, sessions, settings

TARGETS = {target.name: target for module in (
    models, adapters, rows, runs, serving, sessions, envs, settings, commands) for target in module.TARGETS}
