"""What an operator may write for the hosts of a service."""

import pytest

from gateway.addresses import Name, looked_up, places


@pytest.mark.parametrize(
    ("text", "fixed", "names"),
    [
        ("", (), ()),
        ("tts:7403", ("tts:7403",), ()),
        ("a:1, b:2,a:1", ("a:1", "b:2"), ()),
        ("ipv4:10.0.0.1:7403,10.0.0.2:7403", ("10.0.0.1:7403", "10.0.0.2:7403"), ()),
        ("ipv6:[::1]:7403", ("[::1]:7403",), ()),
        ("unix:/run/tts.sock", ("unix:/run/tts.sock",), ()),
        ("dns:tts.mesh:7403,a:1", ("a:1",), (Name("tts.mesh", 7403),)),
        ("dns:///tts.mesh:7403", (), (Name("tts.mesh", 7403),)),
    ],
)
def test_places(text: str, fixed: tuple[str, ...], names: tuple[Name, ...]) -> None:
    found = places(text)
    assert (found.fixed, found.names) == (fixed, names)


@pytest.mark.parametrize(
    "text", ["tts", "tts:", ":7403", "tts:http", "tts:0", "tts:70000", "http://tts:7403", "dns:tts"]
)
def test_what_is_no_place_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not name:port"):
        places(text)


async def test_a_name_is_looked_up() -> None:
    assert await looked_up(Name("127.0.0.1", 7403)) == {"127.0.0.1:7403"}
    assert await looked_up(Name("::1", 7403)) == {"[::1]:7403"}
    with pytest.raises(OSError, match=r"a\.\.b"):
        await looked_up(Name("a..b", 7403))
