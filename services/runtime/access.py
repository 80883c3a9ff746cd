"""The options by which a process reaches etcd: the same for every process that does."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.runtime.errors import InvalidInput
from services.runtime.etcd import EtcdSettings, etcd_settings


class EtcdOptions(BaseModel):
    """How to reach etcd, as command lines and environments give it. The password comes from a file alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    etcd: str = Field("", description="host:port of etcd, several with commas; empty is without etcd")
    etcd_ca: Path | None = Field(default=None, description="PEM file to check etcd's certificate with: switches TLS on")
    etcd_cert: Path | None = Field(default=None, description="PEM file of our own certificate for etcd")
    etcd_key: Path | None = Field(default=None, description="PEM file of its private key")
    etcd_user: str = Field("", description="our name at etcd")
    etcd_password_file: Path | None = Field(default=None, description="file that holds our password at etcd")

    @field_validator("etcd_ca", "etcd_cert", "etcd_key", "etcd_password_file", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return value or None

    def etcd_access(self) -> EtcdSettings | None:
        """What a client of etcd needs; None without etcd. Raises InvalidInput."""
        if not self.etcd:
            return None
        return etcd_settings(
            self.etcd,
            ca=self.etcd_ca,
            cert=self.etcd_cert,
            key=self.etcd_key,
            user=self.etcd_user,
            password=secret(self.etcd_password_file),
        )


def secret(path: Path | None, field: str = "etcd_password_file") -> str:
    """What a file of a secret holds, less the line's end; "" for no file. Raises InvalidInput naming `field`."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(field, f"{path} cannot be read: {type(error).__name__}") from None
