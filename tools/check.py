"""Everything that is checked without running anything: style, types, protos, stubs.

python -m tools.check
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BASES = ("origin/main", "main", "HEAD~1")


def git(*arguments: str) -> str:
    """What git says; nothing if it refuses."""
    said = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 else ""


def breaking_base() -> str:
    """Whose protos must not be broken: main's, or on main itself those of the commit before."""
    here = git("rev-parse", "HEAD")
    known = (base for base in BASES if git("rev-parse", base) not in ("", here) and git("ls-tree", base, "protos"))
    return next(known, "")


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
