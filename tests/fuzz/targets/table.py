"""All targets by name."""
from tests.fuzz.targets import adapters, models, rows, runs, serving

TARGETS = {target.name: target for module in (models, adapters, rows, runs, serving) for target in module.TARGETS}
