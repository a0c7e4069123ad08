"""All targets by name."""
from tests.fuzz.targets import adapters, models, rows

TARGETS = {target.name: target for module in (models, adapters, rows) for target in module.TARGETS}
