"""Who belongs together, as far as anybody can see: nodes that share an address, a funder or a network, or whose
neighbours do.

Such nodes never check one another. Whoever is careful looks like several owners; the draw, the bond that each of them
has to have, and second verifiers are there for those.
"""

from collections import defaultdict
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import count
from urllib.parse import unquote

_PREFIX = {4: 24, 6: 48}  # what one customer of a provider commonly has


def network(peer: str) -> str:
    """The neighbourhood of a gRPC peer such as "ipv4:203.0.113.5:40112": its /24, or /48; "" where that says nothing.

    Addresses that are not public are none: on a localnet or behind one router everybody has the same.
    """
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    try:
        address = ip_address(unquote(rest).rpartition(":")[0].strip("[]"))
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global:
        return ""
    return str(ip_network((address, _PREFIX[address.version]), strict=False))


class Operators:
    """Rows of the order book, by who runs them: a code for those that share a trait or are linked by rows that do."""

    def __init__(self) -> None:
        self._traits: dict[int, frozenset[str]] = {}
        self._rows: dict[str, set[int]] = defaultdict(set)
        self._code: dict[int, int] = {}
        self._members: dict[int, set[int]] = {}
        self._codes = count()

    def put(self, row: int, traits: frozenset[str]) -> dict[int, int]:
        """Note a row's traits, all of them; row -> code for the rows whose code is another one now."""
        before = self._traits.get(row)
        if before == traits:
            return {}
        near = {self._code[other] for trait in traits for other in self._rows[trait] if other != row}
        for trait in before or ():
            self._rows[trait].discard(row)
        for trait in traits:
            self._rows[trait].add(row)
        self._traits[row] = traits
        if before is None and len(near) == 1:  # by far the most common: nothing else changes
            [code] = near
            self._members[code].add(row)
            self._code[row] = code
            return {row: code}
        affected = {row}.union(*(self._members.pop(code) for code in near | self._own(row)))
        return self._relabel(affected)

    def code(self, row: int) -> int:
        return self._code[row]

    def traits(self, row: int) -> frozenset[str]:
        """Everything that is known of whoever runs a row."""
        return frozenset[str]().union(*(self._traits[other] for other in self._members[self._code[row]]))

    def _own(self, row: int) -> set[int]:
        return {self._code[row]} if row in self._code else set()

    def _relabel(self, rows: set[int]) -> dict[int, int]:
        """Give each connected part of these rows a fresh code."""
        codes: dict[int, int] = {}
        for start in rows:
            if start in codes:
                continue
            code, reached, followed, queue = next(self._codes), {start}, set[str](), [start]
            while queue:
                fresh = self._traits[queue.pop()] - followed
                followed |= fresh
                linked = set[int]().union(*(self._rows[trait] for trait in fresh)) - reached
                reached |= linked
                queue += linked
            self._members[code] = reached
            codes |= dict.fromkeys(reached, code)
        self._code |= codes
        return codes
