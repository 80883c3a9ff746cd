"""Measures a talking face on the video that a viewer gets.

    python -m tools.eval answer.mp4 --trace answer.json --portrait mei --json

Without a trace only what needs none is told. `av_offset_ms` is above 0 where the picture comes later than the sound.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import cv2

from services.runtime.errors import DomainError, NotFound
from tools.eval.opening import known
from tools.eval.report import Report, evaluate
from tools.eval.trace import read

PORTRAITS = Path(__file__).parents[2] / "services" / "render" / "portraits"
# The keys of the JSON line; the others are for people.
KEYS = (
    "mouth_corr",
    "av_offset_ms",
    "closure_recall",
    "fps",
    "dropped",
    "duration_gap_ms",
    "sharpness",
    "lse_c",
    "lse_d",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tools.eval", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip", type=Path, help="an MP4")
    parser.add_argument("--trace", type=Path, help="what the clip was meant to show; see tools/eval/trace.py")
    parser.add_argument("--portrait", help="the name of the portrait (default: the trace's)")
    parser.add_argument("--portraits", type=Path, default=PORTRAITS, help="the folder of the portraits")
    parser.add_argument("--syncnet", type=Path, help="syncnet_v2.model, for LSE-C and LSE-D; needs torch")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    return parser.parse_args()


def told(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def pack(folder: Path, name: str) -> Path | None:
    if not name:
        return None
    if name not in known(folder):
        raise NotFound("portrait", name, known(folder))
    return folder / name


def show(report: Report, as_json: bool) -> None:
    values = asdict(report)
    for key, value in values.items():
        print(f"{key:<16} {told(value)}")
    if as_json:
        numbers = {key: "n/a" if values[key] is None else round(values[key], 4) for key in KEYS}
        print(json.dumps(numbers))


def main() -> int:
    given = arguments()
    cv2.setNumThreads(1)
    try:
        trace = read(given.trace) if given.trace else None
        name = given.portrait or (trace.portrait if trace else "")
        show(evaluate(given.clip, trace, pack(given.portraits, name), given.syncnet), given.json)
    except DomainError as error:
        print(f"tools.eval: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
