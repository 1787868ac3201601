"""How a Studio is set up; part of the coordinator's configuration."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_DAY_S = 86_400


class StudioSettings(BaseModel):
    """Every setting of the pages; durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smtp_host: str = ""  # sends the links with which people sign in; "": they are logged, with test money only
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_encryption: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_password_file: Path | None = None  # instead of smtp_password
    mail_from: str = ""

    # A button makes money, and nobody needs an e-mail address to begin. Only a local chain allows it.
    test_money: bool = False

    link_s: int = Field(default=900, ge=60)  # how long a link signs in
    session_s: int = Field(default=30 * _DAY_S, ge=60)
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0)  # of one set of examples
    keep_drafts_s: int = Field(default=14 * _DAY_S, ge=60)  # what was never started is deleted after that

    @model_validator(mode="after")
    def _can_sign_people_in(self) -> "StudioSettings":
        if not self.test_money and not (self.smtp_host and self.mail_from):
            raise ValueError("without test_money people sign in by e-mail: set smtp_host and mail_from")
        return self
