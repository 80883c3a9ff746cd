"""The main job from end to end, on this machine: a spoken question in, an MP4 of a talking face out.

python -m tools.demo                        tests/data/question.wav → out/answer.mp4
python -m tools.demo --wav Q.wav -o A.mp4
"""

import argparse
import asyncio
import sys
from pathlib import Path

from services.runtime.desired import SERVICES
from tools.up import ROOT, NotReady, running_mesh


async def demo(options: argparse.Namespace) -> int:
    """Bring up the mesh, ask, take it down. Returns the exit code of `talkmesh ask`."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    models = {name: getattr(options, f"{name}_model") for name in SERVICES}
    print("starting five services and the gateway …", flush=True)
    async with running_mesh(ROOT / "var" / "log", models) as mesh:
        for command in (["status"], asking(options)):
            print(f"\n$ talkmesh {' '.join(command)}", flush=True)
            arguments = ("-m", "talkmesh", "--address", mesh.address, *command)
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
            code = await process.wait()
    if code == 0:
        print(f"\nthe answer is in {options.output}")
    return code


def asking(options: argparse.Namespace) -> list[str]:
    trace = options.output.with_suffix(".json")
    question = ["--text", options.text] if options.text else [str(options.wav)]
    chosen = ["--portrait", options.portrait, "--size", str(options.size)]
    return ["ask", *question, "--real-time", "-o", str(options.output), "--trace", str(trace), *chosen]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--wav", type=Path, default=Path("tests/data/question.wav"), help="the question")
    parser.add_argument("--text", default="", help="the question as text instead")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/answer.mp4"))
    parser.add_argument("--portrait", default="mei")
    parser.add_argument("--size", type=int, default=512)
    for name in SERVICES:
        parser.add_argument(f"--{name}-model", default="", help=f"model of the catalog for {name}")
    try:
        sys.exit(asyncio.run(demo(parser.parse_args())))
    except NotReady as error:
        sys.exit(f"tools.demo: {error}")


if __name__ == "__main__":
    main()
