"""Whether and where outcomes are kept, and what of them: the gateway's settings about it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from services.runtime.errors import InvalidInput


class OutcomesOptions(BaseModel):
    """As command lines and environments give them. Without a folder nothing is kept."""

    outcomes_folder: Path | None = Field(
        default=None, description="where outcomes are kept, or wait for a store elsewhere; empty keeps none"
    )
    outcomes_url: str = Field(
        "", repr=False, description="their store: postgresql://user@host/database; empty is SQLite in the folder"
    )
    outcomes_password_file: Path | None = Field(default=None, description="file that holds our password at the store")
    outcomes_days: float = Field(90, gt=0, description="how long outcomes are kept")
    outcomes_spool_mb: float = Field(64, gt=0, description="most of them that wait on disk while the store is away")
    outcomes_keep_texts: bool = Field(default=False, description="keep what people and the face say, and comments")
    outcomes_keep_users: bool = Field(default=False, description="keep ids of users and devices, not only their hashes")
    outcomes_user_key_file: Path | None = Field(default=None, description="file with the key of these hashes")

    @field_validator("outcomes_folder", "outcomes_password_file", "outcomes_user_key_file", mode="before")
    @classmethod
    def _no_path(cls, value: Any) -> Any:
        return value or None

    @field_validator("outcomes_url")
    @classmethod
    def _understood(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("outcomes_folder"):
            raise ValueError(
                "is given without outcomes_folder, expected a folder for what waits while the store is away"
            )
        if value:
            from gateway.outcomes.place import parsed

            try:
                parsed(value)
            except InvalidInput as error:
                raise ValueError(str(error)) from None
        return value
