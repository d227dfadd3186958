"""Change data merged into keyed tables: what changed, where it is stored, and what it becomes."""
