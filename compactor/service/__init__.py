"""The service: schedules and hooks become jobs, one per table at a time, and each wait has a reason."""
