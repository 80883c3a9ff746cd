"""Everything that is checked without running anything: style, types, protos, stubs.

python -m tools.check
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
MAIN_BRANCHES = ("origin/main", "main")


def breaking_base() -> str:
    """The branch whose protos must not be broken: what is released of main, else main itself."""
    for branch in MAIN_BRANCHES:
        known = subprocess.run(
            ["git", "ls-tree", branch, "protos"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if known.returncode == 0 and known.stdout:
            return branch
    return ""


def checks() -> list[Sequence[str]]:
    python = sys.executable
    found: list[Sequence[str]] = [
        (str(BIN / "ruff"), "check", "."),
        (str(BIN / "ruff"), "format", "--check", "."),
        (python, "-m", "mypy"),
        (str(BIN / "buf"), "lint"),
        (str(BIN / "buf"), "format", "--exit-code", "-d"),
        (python, "-m", "tools.protogen", "--check"),
    ]
    if base := breaking_base():
        found.append((str(BIN / "buf"), "breaking", "--against", f".git#ref={base}"))
    return found


def main() -> None:
    failed = []
    for command in checks():
        name = " ".join([Path(command[0]).name, *command[1:]])
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
