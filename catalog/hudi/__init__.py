"""Hudi tables of versions 6, 8 and 9 behind the table model: read, written, nothing of compaction."""
