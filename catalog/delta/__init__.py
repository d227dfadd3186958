"""Delta Lake tables: the log read and written, nothing of compaction."""
