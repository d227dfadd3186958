"""Heterogeneous nodes that add up to a cluster of a given size."""

from dataclasses import dataclass
from random import Random

from runtime.api import Resources

GIB = 1 << 30

CPUS = (8, 16, 32, 48, 64, 96)
GIB_PER_CPU = (4, 8, 8, 8, 16)


@dataclass(frozen=True, slots=True)
class Size:
    """CPU slots and memory of a whole cluster."""

    cpus: int = 256
    memory_bytes: int = 2048 * GIB


def nodes(seed: int, size: Size) -> dict[str, Resources]:
    """Return nodes of several shapes; their memory is scaled so that the sum is exact."""
    random = Random(seed)
    shapes: list[tuple[int, int]] = []
    left = size.cpus
    while left:
        cpus = min(left, random.choice(CPUS))
        shapes.append((cpus, cpus * random.choice(GIB_PER_CPU)))
        left -= cpus
    scale = size.memory_bytes / sum(memory for _, memory in shapes)
    memories = [int(memory * scale) for _, memory in shapes]
    memories[-1] += size.memory_bytes - sum(memories)
    pairs = zip((cpus for cpus, _ in shapes), memories, strict=True)
    return {f"node{i}": Resources(cpus, memory) for i, (cpus, memory) in enumerate(pairs)}
