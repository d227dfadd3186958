"""What tasks on a new table need: prior beliefs per operation, learned from real compactions.

Each is about the logarithm of the memory that a task's data takes, by the planner's estimate of
it: mean and variance between tables. Source: a run of `benchmarks.memory`, six tables. Where some
row groups are copied, how many is only seen in footers: tables differ more.
"""

from compactor.planner.plan import Rung
from runtime.predictor import Prior

PRIORS = {
    Rung.COMPOSE.value: Prior(-0.2, 0.1),
    Rung.SPLICE.value: Prior(-0.2, 0.1),
    Rung.MIXED.value: Prior(-0.2, 0.1),
    Rung.TRANSCODE.value: Prior(-0.1, 0.02),
    Rung.MERGE.value: Prior(-0.1, 0.1),
}
