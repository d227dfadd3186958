"""Where the engines are that judge what we write."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
JUDGES_PYTHON = ROOT / ".venv-judges" / "bin" / "python"
