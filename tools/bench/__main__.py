"""`python -m tools.bench BENCH …`: each bench prints its own --help."""

import importlib
import sys

BENCHES = ("turn", "swap", "live", "experiments")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f"usage: python -m tools.bench {{{','.join(BENCHES)}}} …")
    importlib.import_module(f"tools.bench.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
