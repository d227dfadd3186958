"""Running a plan: journal, attempts, commit batches, cleaning up, events."""
