"""Planning tables of very many files: for the first time, and after one more commit of 400."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import Case, Contender, peer
from benchmarks.manifests import append_files, prepare_manifests
from benchmarks.tables import Prepared

_MANIFESTS = 500
_FILES_PER_MANIFEST = 2000
_COLD, _WARM = "cold", "warm"
_NEW_FILES = 400
# What nothing is wrong with needs no work: the table as it is between two commits.
_CALM = ("--target-file-size", "2.6MB")


def _prepare(cache: Path, directory: Path, scale: float) -> Prepared:
    """Make the table once; before each run forget what the first plan kept, and commit files."""
    del cache
    files = max(1, round(_FILES_PER_MANIFEST * scale))
    prepared = prepare_manifests(directory, _MANIFESTS, files)
    shutil.rmtree(directory / _COLD, ignore_errors=True)
    if not (directory / _WARM).exists():
        environment = {**os.environ, **prepared.environment}
        subprocess.run(
            _plan("", _WARM).command(prepared), check=True, capture_output=True, env=environment
        )
    append_files(prepared, max(1, round(_NEW_FILES * scale)))
    return prepared


def _plan(name: str, state: str, *arguments: str) -> Contender:
    program = str(Path(sys.executable).with_name("compact"))

    def command(prepared: Prepared) -> list[str]:
        place = f"XDG_STATE_HOME={prepared.directory / state}"
        return ["env", place, program, "plan", prepared.target, *arguments, "--json"]

    return Contender(name, command)


PLANNING_CASES = (
    Case(
        "many-manifests",
        "plan 1,000,000 data files in 500 manifests, 20 columns with statistics, 1,000 partitions",
        _prepare,
        (
            _plan("compact plan", _COLD),
            _plan("compact plan, in one process", _COLD, "--runtime", "inline"),
            _plan("compact plan, after one commit", _WARM),
            _plan("compact plan, after one commit, calm", _WARM, *_CALM),
            peer("pyiceberg-plan"),
        ),
        "pyiceberg-plan",
    ),
)
