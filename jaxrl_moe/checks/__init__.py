"""Everything that can be refused, before the first expensive second."""
