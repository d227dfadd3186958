"""The service: schedules and hooks become jobs, one per table at a time; waits have reasons."""
