"""Tasks that workers import: light, deterministic, importable by name."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Group:
    """What a rewrite task looks like: a frozen value that holds a table."""

    name: str
    table: Any


class PickyError(Exception):
    """Cannot be rebuilt from its arguments, as many exceptions of libraries."""

    def __init__(self, path: str, *, row: int) -> None:
        super().__init__(f"{path} row {row}")
        self.row = row


class LockedError(Exception):
    """Carries what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.payload = threading.Lock()


def add(left, right):
    return left + right


def nothing():
    return None


def nothing_of(value):
    return None


class Unloadable:
    """Can be pickled but not unpickled."""

    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return fail, (self.text,)

    def __call__(self):
        return None


def sleep_then(seconds, value):
    time.sleep(seconds)
    return value


def fail(text):
    raise ValueError(text)


def fail_picky():
    raise PickyError("a.parquet", row=3)


def fail_locked():
    raise LockedError("cannot travel")


def fail_from_memory():
    try:
        raise MemoryError("refused")
    except MemoryError as error:
        raise RuntimeError("rewriting failed") from error


def unpicklable_result():
    return threading.Lock()


def system_exit():
    sys.exit(3)


def pid():
    return os.getpid()


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_self_once(marker):
    """Die in the first attempt only."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def touch_then_sleep(marker, seconds):
    Path(marker).touch()
    time.sleep(seconds)


def allocate(size_bytes):
    """Use private memory for real."""
    block = bytearray(size_bytes)
    block[::4096] = b"x" * len(block[::4096])
    return len(block)


def allocate_slowly(size_bytes, step_bytes, seconds):
    blocks = []
    for _ in range(size_bytes // step_bytes):
        block = bytearray(step_bytes)
        block[::4096] = b"x" * len(block[::4096])
        blocks.append(block)
        time.sleep(seconds)
    return len(blocks)


def make_table(rows):
    import pyarrow as pa

    return pa.table({"n": pa.array(range(rows), pa.int64())})


def total(table):
    import pyarrow.compute as pc

    return pc.sum(table["n"]).as_py()


def address(table):
    """Where the first buffer lies and how much private memory the worker holds."""
    return table["n"].chunk(0).buffers()[1].address


def shrink(group):
    return Group(group.name + "-small", group.table.slice(2, 3))


def make_array(rows):
    import numpy as np

    return np.arange(rows)


def is_writable(array):
    return array.flags.writeable


def speak(text):
    print(text)  # noqa: T201
    sys.stdout.write("no newline")
    os.write(1, b"\x00\x01raw bytes")
    return text


def modules():
    return sorted(sys.modules)


def cpus():
    import pyarrow as pa

    return os.environ["OMP_NUM_THREADS"], pa.cpu_count()


class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, amount):
        self.value += amount
        return self.value

    def fail(self):
        raise ValueError("no")

    def die(self):
        kill_self()

    def sleep(self, seconds):
        time.sleep(seconds)


class Unborn:
    def __init__(self):
        raise ValueError("not today")


def halves(numbers):
    middle = len(numbers) // 2
    return numbers[:middle], numbers[middle:]


def segments(count, rows):
    import pyarrow as pa

    import runtime

    return runtime.Segments([pa.table({"n": [place] * rows}) for place in range(count)])


def totals(tables):
    return [total(table) for table in tables]


def need_memory(numbers):
    """Sum numbers, each of which needs 60 MiB."""
    return len(allocated(len(numbers) * 60 << 20)) and sum(numbers)


def allocated(size_bytes):
    block = bytearray(size_bytes)
    block[::4096] = b"x" * len(block[::4096])
    return block


def split_numbers(numbers):
    left, right = halves(numbers)
    return [(left,), (right,)] if left else []


def fail_from_memory_of(numbers):
    raise MemoryError(f"refused {len(numbers)}")


def fail_many_else_sleep(numbers):
    if len(numbers) > 1:
        raise MemoryError("too many")
    time.sleep(60)


def make_keys(seed, rows, keys=1_000):
    import numpy as np
    import pyarrow as pa

    numbers = np.random.default_rng(seed).integers(0, keys, rows)
    return pa.table({"k": [f"key-{n}" for n in numbers], "v": np.arange(rows) + seed * rows})


def values_by_key(table):
    """Return the values of each key in the order of the rows."""
    found = {}
    for key, value in zip(table["k"].to_pylist(), table["v"].to_pylist(), strict=True):
        found.setdefault(key, []).append(value)
    return found


class Leaves(BaseException):
    pass


class CannotBePickledError(Exception):
    def __reduce__(self):
        raise SystemExit(3)


class ExitsError(Exception):
    """Ends the driver where it is rebuilt."""

    def __init__(self, driver):
        super().__init__(driver)
        self.driver = driver

    def __reduce__(self):
        return _exits, (self.driver,)


def _exits(driver):
    if os.getpid() == driver:
        raise SystemExit(5)
    return ExitsError(driver)


def hostile(name, place, driver):
    value = {
        "leaves": Leaves,
        "cannot_be_pickled": CannotBePickledError,
        "exits": lambda: ExitsError(driver),
    }[name]()
    if place == "returned":
        return value
    raise value
