"""Hudi tables of versions 6, 8 and 9: read and written, nothing of compaction."""
