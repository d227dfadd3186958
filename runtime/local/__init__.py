"""Tasks in worker processes of this machine, objects in shared memory."""
