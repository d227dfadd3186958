"""The parts of the scheduler: requests, pooled admission, nodes, queues, containment. All pure."""
