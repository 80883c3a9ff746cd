"""Make a key directly in etcd: the first one, or when nobody who may make one is left.

    python -m gateway.access --etcd 127.0.0.1:2379 --name ann --role admin

The token is all that goes to stdout. It takes somebody who may write to etcd.
"""

import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from gateway.access.key_control import KeyControl, Wanted, described
from services.runtime.access import EtcdOptions
from services.runtime.errors import DomainError
from services.runtime.etcd import connected
from services.runtime.options import from_command_line


class KeyOptions(EtcdOptions):
    """The key that is wanted."""

    name: str = Field("", description="of the key, one of its own")
    role: str = Field("", description="viewer, operator or admin")
    scopes: str = Field("", description="with commas: talk, push")
    days: int = Field(0, ge=0, description="that it holds; 0 is for ever")
    token_file: Path | None = Field(
        default=None, description="file to write the token to, mode 0600, and not to stdout"
    )

    @field_validator("token_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None


async def make(options: KeyOptions) -> str:
    """Make the key; returns its token. Raises DomainError."""
    settings = options.etcd_access()
    if settings is None:
        sys.exit("python -m gateway.access: --etcd is missing")
    scopes = tuple(scope for scope in options.scopes.split(",") if scope)
    wanted = Wanted(options.name, options.role, scopes, options.days * 86400)
    async with connected(settings) as etcd:
        issued, key = await KeyControl(etcd).create(wanted, actor=f"{getpass.getuser()}, by etcd", reason="bootstrap")
    sys.stderr.write(f"key {issued.id}, {key.name}: {described(key)}. Keep its token; it cannot be had again:\n")
    return issued.token


def written(path: Path, token: str) -> None:
    """Keep a token in a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")


def main() -> None:
    options = from_command_line(KeyOptions, "python -m gateway.access", "Make an API key in etcd.", "TALKMESH_ACCESS")
    try:
        token = asyncio.run(make(options))
        if options.token_file:
            written(options.token_file, token)
        else:
            sys.stdout.write(f"{token}\n")
    except (DomainError, OSError) as error:
        sys.exit(f"python -m gateway.access: {error}")


if __name__ == "__main__":
    main()
