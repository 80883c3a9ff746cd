"""`python -m tools.soak leaks …` and `python -m tools.soak drift …`: each prints its own --help."""

import importlib
import sys

SOAKS = ("leaks", "drift")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in SOAKS:
        sys.exit(f"usage: python -m tools.soak {{{','.join(SOAKS)}}} …")
    importlib.import_module(f"tools.soak.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
