"""Who vouches for a coordinator's certificate: the public authorities, or the one that the owner names in ca_file."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from gristmill_protocol.errors import BadSettings


@dataclass(frozen=True)
class Authority:
    """The same for both of a coordinator's sides.

    Args:
        certificates: PEM, for gRPC; None: the public ones.
        verify: for httpx.
    """

    certificates: bytes | None = None
    verify: ssl.SSLContext | bool = True


def read_authority(ca_file: Path | None) -> Authority:
    """Args:
        ca_file: None: the public authorities.
    Raises:
        BadSettings: it cannot be read, or holds no certificate.
    """
    if ca_file is None:
        return Authority()
    try:
        return Authority(ca_file.read_bytes(), ssl.create_default_context(cafile=str(ca_file)))
    except OSError as err:  # so are the errors of ssl
        raise BadSettings(
            f"No certificate can be read from {ca_file}: {err.strerror}.",
            effect="No coordinator can prove by it who it is.",
            todo="Correct ca_file (--ca-file), or take it out if a public authority vouches for the coordinator.",
        ) from err
