"""One JSON text per value, so that a digest of it means something."""

import json
from hashlib import sha256


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, no NaN. Floats are written by Python's shortest round-trip repr.

    Raises:
        ValueError: NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_json(value: object) -> bytes:
    return sha256(canonical_json(value)).digest()
