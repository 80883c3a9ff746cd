"""Make the typed Python stubs of `protos/`, or check that the committed ones are what the protos say.

Ours go beside the SDK; those of etcd's API, which only servers speak, beside the code that speaks it.

python -m tools.protogen            write them
python -m tools.protogen --check    exit 1 and name the files that differ
"""

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"


def generate(target: Path) -> list[Path]:
    """Write the stubs of every proto below `target`, and return their paths relative to it.

    Raises RuntimeError when protoc refuses a file.
    """
    sources = sorted(PROTOS.rglob("*.proto"))
    scripts = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *map(str, sources),
        ]
    )
    if status:
        raise RuntimeError(f"protoc ended with status {status}")
    for stub in target.rglob("*_pb2.py"):
        for package in stub.relative_to(target).parents:
            if len(package.parts) > 1 and not is_written(package):
                (target / package / "__init__.py").touch()
    drop_empty_services(target)
    return sorted(path.relative_to(target) for path in target.rglob("*.py*") if path.is_file())


def is_written(package: Path) -> bool:
    """Whether a package holds code of a person's hand, and so an `__init__.py` that is none of our business."""
    return any(
        path.name != "__init__.py" and not path.stem.endswith(("_pb2", "_pb2_grpc"))
        for path in (ROOT / package).glob("*.py")
    )


def drop_empty_services(target: Path) -> None:
    """Remove the gRPC stubs of protos that declare no service."""
    for source in PROTOS.rglob("*.proto"):
        if "\nservice " not in source.read_text():
            stem = target / source.relative_to(PROTOS).with_suffix("")
            for suffix in ("_pb2_grpc.py", "_pb2_grpc.pyi"):
                Path(f"{stem}{suffix}").unlink(missing_ok=True)


def stale(fresh: Path, paths: list[Path]) -> list[str]:
    """Names of committed stubs that differ from `fresh`, are missing, or have no proto any more."""
    wrong = [
        str(path)
        for path in paths
        if not (ROOT / path).exists() or not filecmp.cmp(fresh / path, ROOT / path, shallow=False)
    ]
    known = set(paths)
    folders = [ROOT / top.name for top in PROTOS.iterdir() if top.is_dir()]
    committed = (path.relative_to(ROOT) for folder in folders for path in folder.rglob("*_pb2*.py*"))
    wrong += [f"{path} (no proto)" for path in committed if path not in known and path.suffix in (".py", ".pyi")]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.protogen", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare with the committed stubs")
    check: bool = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        paths = generate(fresh)
        if check:
            if wrong := stale(fresh, paths):
                sys.exit("stubs differ from protos; run python -m tools.protogen:\n  " + "\n  ".join(wrong))
            print(f"{len(paths)} stubs are up to date")
            return
        for path in paths:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, ROOT / path)
        print(f"{len(paths)} stubs written")


if __name__ == "__main__":
    main()
