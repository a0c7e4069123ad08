"""All targets by name."""
from tests.fuzz.targets import adapters, commands, models, rows, runs, serving, settings

TARGETS = {target.name: target for module in (
    models, adapters, rows, runs, serving, settings, commands) for target in module.TARGETS}
