from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import services.render
from services.render.engine import Head
from services.render.face import Face, build_face
from services.render.pixels import Image
from services.render.portrait import load_portrait
from services.render.warp import WarpRenderer

Draw = Callable[..., Image]


@pytest.fixture(scope="session")
def packs() -> Path:
    return Path(next(iter(services.render.__path__))) / "portraits"


@pytest.fixture(scope="session", params=["mei", "leo"])
def face(request: pytest.FixtureRequest, packs: Path) -> Iterator[Face]:
    yield build_face(load_portrait(packs / request.param, 256))


@pytest.fixture(scope="session")
def draw(face: Face) -> Draw:
    """draw(Head(...), jawOpen=0.5, …) is the picture."""
    renderer = WarpRenderer(face, face.portrait.unit_names)

    def drawn(head: Head | None = None, **weights: float) -> Image:
        return renderer.draw(face.weights(weights), head or Head())

    return drawn
