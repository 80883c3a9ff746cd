"""Where the recordings come from: Debian packages, taken as they are and unpacked in the cache. Nothing is installed.

pocketsphinx-testdata         LibriVox readings, public domain; cards and commands, BSD-2-Clause, Carnegie Mellon University
codec2-examples               radio amateurs and Harvard sentences, several speakers, LGPL-2.1, David Rowe
asterisk-core-sounds-en-g722  telephone prompts, Allison Smith, CC-BY-SA-3.0

Only positions and texts are kept in this repository.
"""

import os
import subprocess
from pathlib import Path

NAMES = ("pocketsphinx-testdata", "codec2-examples", "asterisk-core-sounds-en-g722")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "talkmesh" / "speech"


def folder(*names: str) -> Path:
    """The root of the unpacked packages (all, if none is named); the first call fetches. Raises CalledProcessError."""
    for name in names or NAMES:
        if not (CACHE / name).is_dir():
            unpack(name)
    return CACHE


def unpack(name: str) -> None:
    """Fetch one package with apt and unpack it under its name."""
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-qq", name], cwd=CACHE, check=True, stderr=subprocess.DEVNULL)
    (archive,) = CACHE.glob(f"{name}_*.deb")
    unpacked = CACHE / f"{name}.part"
    subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
    unpacked.rename(CACHE / name)
    archive.unlink()
