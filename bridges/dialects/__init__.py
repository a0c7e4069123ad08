"""Configurations of other systems as recipes of ours: synth-ai's TOML, SkyRL's YAML with its overrides,
slime's flags. Each has one table of its keys; what has no meaning here is told with the reason."""
from bridges.dialects.printing import recipe
from bridges.dialects.readers import READ, READERS
from bridges.dialects.translation import Assigned, Translation, Unused

__all__ = ["READ", "READERS", "Assigned", "Translation", "Unused", "recipe"]
