"""The metadata table of a Hudi table: its listing and its indexes, read and kept right."""
