"""A host is light: what infers is imported in engine processes only."""

import json
import subprocess
import sys

import pytest

from tests.fakes.hosts import ROOT

HEAVY = {"torch", "transformers", "onnxruntime", "onnx", "ctranslate2", "faster_whisper", "cv2"}
LIST_IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
SERVICERS = sorted(path.parent.name for path in (ROOT / "services").glob("*/servicer.py"))


def imported(*modules: str) -> set[str]:
    """Top-level packages that are loaded after importing modules in a fresh interpreter."""
    command = [sys.executable, "-c", LIST_IMPORTS, *modules]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_the_host_imports_nothing_heavy() -> None:
    found = imported("services.runtime.host")
    assert "grpc" in found
    assert found & {*HEAVY, "numpy", "av"} == set()


@pytest.mark.parametrize("service", SERVICERS)
def test_no_service_makes_its_host_heavy(service: str) -> None:
    found = imported("services.runtime.host", f"services.{service}.servicer")
    assert found & HEAVY == set()
