"""The rules that the source itself must keep: sizes, first lines, purity, names."""

from __future__ import annotations

import ast
import itertools
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("catalog", "compactor", "runtime")
MODULE_LINES_MAX = 600
TEST_MODULE_LINES_MAX = 600
FACE_LINES_MAX = 60
FUNCTION_LINES_MAX = 70
CLASS_LINES_MAX = 400
PARAMETERS_MAX = 5
FUNCTION_LINES_MEDIAN = 10
FUNCTION_LINES_P90 = 30
GENERATED = "_pb2"
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "helpers", "manager"}

# Modules that decide and never act: values in, values out.
PURE = (
    "catalog/conflicts.py",
    "catalog/delta/checkpoint_rows.py",
    "catalog/delta/contents.py",
    "catalog/delta/intervals.py",
    "catalog/delta/peers.py",
    "catalog/delta/remap.py",
    "catalog/delta/staleness.py",
    "catalog/delta/standing.py",
    "catalog/footer_statistics.py",
    "catalog/iceberg/retention.py",
    "compactor/merge/buckets.py",
    "compactor/merge/changes.py",
    "compactor/merge/choice.py",
    "compactor/merge/conforming.py",
    "compactor/merge/deletes.py",
    "compactor/merge/index.py",
    "compactor/merge/keys.py",
    "compactor/merge/kinds.py",
    "compactor/merge/latest.py",
    "compactor/merge/matching.py",
    "compactor/merge/outcome.py",
    "compactor/merge/rounds.py",
    "compactor/merge/routing.py",
    "compactor/merge/rules.py",
    "compactor/parquet/bloom.py",
    "compactor/parquet/compatibility.py",
    "compactor/parquet/footer.py",
    "compactor/parquet/page_index.py",
    "compactor/parquet/rendering.py",
    "compactor/parquet/scan.py",
    "compactor/parquet/splice.py",
    "compactor/parquet/thrift.py",
    "compactor/planner",
    "compactor/jobs/state.py",
    "compactor/jobs/machine.py",
    "compactor/jobs/staleness.py",
    "compactor/jobs/totals.py",
    "compactor/service/hints.py",
    "compactor/service/limits.py",
    "compactor/service/waiting.py",
    "runtime/scheduler.py",
    "runtime/scheduling",
    "runtime/predictor.py",
)
IMPURE_MODULES = {
    "asyncio",
    "datetime",
    "io",
    "obstore",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval"}


def sources(*roots: str) -> list[Path]:
    written = itertools.chain.from_iterable((ROOT / root).rglob("*.py") for root in roots)
    found = (path for path in written if GENERATED not in path.name)
    return sorted(path for path in found if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def body_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code: the docstring says what, it does not make a function longer."""
    documented = ast.get_docstring(node, clean=False)
    return length(node) - (len(documented.splitlines()) if documented else 0)


def purity_violations(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = []
            if node.func.id in IMPURE_CALLS:
                found.append(f"line {node.lineno}: calls {node.func.id}")
        else:
            continue
        found += [
            f"line {node.lineno}: imports {name}"
            for name in names
            if name.split(".")[0] in IMPURE_MODULES
        ]
    return found


MODULES = sources(*PACKAGES)
RELATIVE = {path.relative_to(ROOT).as_posix(): path for path in MODULES}


def is_pure(name: str) -> bool:
    return any(name == pure or name.startswith(f"{pure}/") for pure in PURE)


def oversized(name: str) -> Iterator[str]:
    path = RELATIVE[name]
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > (FACE_LINES_MAX if path.name == "__init__.py" else MODULE_LINES_MAX):
        yield f"{name} has {lines} lines"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef) and length(node) > CLASS_LINES_MAX:
            yield f"{name}: class {node.name} is too long"
    for function in functions(parsed(path)):
        if body_length(function) > FUNCTION_LINES_MAX:
            yield f"{name}: {function.name} is too long"


def test_modules_keep_the_size_caps() -> None:
    assert [fault for name in RELATIVE for fault in oversized(name)] == []


def many_parameters(name: str) -> Iterator[str]:
    for function in functions(parsed(RELATIVE[name])):
        arguments = function.args
        positional = [a.arg for a in arguments.posonlyargs + arguments.args]
        own = [a for a in positional if a not in {"self", "cls"}]
        # A click command's parameters are its options: the decorator list is their documentation.
        if function.decorator_list and "/cli/" in name:
            continue
        if len(own) + len(arguments.kwonlyargs) > PARAMETERS_MAX + 1 or len(own) > PARAMETERS_MAX:
            yield f"{name}: {function.name} takes too many"
        if arguments.kwarg is not None:
            yield f"{name}: {function.name} tunnels keyword arguments"


def test_functions_take_few_parameters() -> None:
    assert [fault for name in RELATIVE for fault in many_parameters(name)] == []


def test_modules_say_in_their_first_lines_why_they_exist() -> None:
    documented = {name: ast.get_docstring(parsed(path)) or "" for name, path in RELATIVE.items()}
    first_lines = {name: text.partition("\n")[0] for name, text in documented.items()}
    assert [name for name, line in first_lines.items() if not line.endswith(".")] == []


def test_pure_modules_do_no_io() -> None:
    pure = [name for name in RELATIVE if is_pure(name)]
    faults = {name: purity_violations(parsed(RELATIVE[name])) for name in pure}
    assert {name: some for name, some in faults.items() if some} == {}


def test_the_purity_rule_catches_what_it_forbids() -> None:
    tree = ast.parse("import time\nfrom pathlib import Path\nopen('x')\n")
    assert len(purity_violations(tree)) == 3


def test_there_are_pure_modules() -> None:
    assert sum(is_pure(name) for name in RELATIVE) >= 5


def test_functions_are_short_as_a_rule() -> None:
    lengths = sorted(body_length(f) for path in MODULES for f in functions(parsed(path)))
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN
    assert lengths[int(len(lengths) * 0.9)] <= FUNCTION_LINES_P90


def test_names_say_what_is_inside() -> None:
    parts = {name: set(Path(name).with_suffix("").parts) for name in RELATIVE}
    assert [name for name, some in parts.items() if FORBIDDEN_NAMES & some] == []


def test_test_modules_keep_their_size_cap() -> None:
    for path in sources("tests", "benchmarks"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= TEST_MODULE_LINES_MAX, path
