"""The digest of a set of files: what a job that is checked as a whole commits to.

    leaf = SHA256("gristmill/output\\0" || len(path) u64le || path || size u64le || SHA256 of the content)
    root = MerkleRoot(leaves)

Paths are relative, with slashes, and sorted by their UTF-8 bytes.
"""

from collections.abc import Mapping
from hashlib import sha256

from gristmill_protocol.jobs import ArtifactRef
from gristmill_protocol.merkle import merkle_root


def outputs_root(files: Mapping[str, ArtifactRef]) -> bytes:
    """Root over the files by path; the order they come in does not matter."""
    return merkle_root([_leaf(path.encode(), files[path]) for path in sorted(files, key=str.encode)])


def _leaf(path: bytes, ref: ArtifactRef) -> bytes:
    head = b"gristmill/output\0" + len(path).to_bytes(8, "little") + path
    return sha256(head + ref.size_bytes.to_bytes(8, "little") + bytes.fromhex(ref.sha256)).digest()
