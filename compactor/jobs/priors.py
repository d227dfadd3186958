"""What tasks on a new table need: prior beliefs per operation, learned from real compactions.

Each is about the logarithm of the memory that a task's data takes, by the planner's estimate of
it: mean and variance between tables, deviation within one. Source: a run of `benchmarks.memory`,
six tables, the last figure as small as lets no first attempt of 400 run out of memory.
"""

from compactor.planner.plan import Rung
from runtime.predictor import Prior

PRIORS = {
    Rung.COMPOSE.value: Prior(-0.1, 0.01, 0.17),
    Rung.SPLICE.value: Prior(-0.1, 0.01, 0.17),
    Rung.MIXED.value: Prior(-0.1, 0.01, 0.17),
    Rung.TRANSCODE.value: Prior(-0.1, 0.01, 0.17),
}
