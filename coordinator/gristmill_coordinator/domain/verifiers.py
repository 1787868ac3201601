"""Who checks: a draw among those who may, weighted by bond, from a seed nobody could choose."""

from collections.abc import Mapping
from hashlib import sha256


def draw(bonds: Mapping[str, int], seed: bytes) -> str:
    """One of the node ids, with a chance in proportion to its bond; nobody counts for more than a tenth of the pool.

    Ten or fewer nodes are equal then, so that one rich verifier cannot check everything.

    Args:
        bonds: node id -> bond in micro-USD; at least one.
    """
    most = max(1, sum(bonds.values()) // 10)
    weights = {node_id: min(max(bonds[node_id], 1), most) for node_id in sorted(bonds)}
    # The modulo's bias is below 2^-190: a digest is far longer than any sum of bonds.
    at = int.from_bytes(sha256(b"verifier" + seed).digest()) % sum(weights.values())
    for node_id, weight in weights.items():
        at -= weight
        if at < 0:
            return node_id
    raise ValueError("no verifier to draw from")
