"""Who belongs together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill_coordinator.market.operators import Operators, network


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("ipv4:93.184.216.34:40112", "93.184.216.0/24"),
        ("ipv6:[2606:2800:220:1:248:1893:25c8:1946]:50", "2606:2800:220::/48"),
        ("ipv6:%5B2606:2800:220:1:248:1893:25c8:1946%5D:50", "2606:2800:220::/48"),
        ("ipv6:[::ffff:93.184.216.34]:50", "93.184.216.0/24"),
        ("ipv4:127.0.0.1:1", ""),
        ("ipv4:10.1.2.3:1", ""),
        ("ipv4:192.168.0.4:1", ""),
        ("ipv4:100.64.0.1:1", ""),
        ("ipv6:[::1]:1", ""),
        ("ipv6:[fe80::1%25eth0]:1", ""),
        ("unix:/run/socket", ""),
        ("ipv4:no address", ""),
    ],
)
def test_a_public_peer_has_a_neighbourhood(peer: str, found: str) -> None:
    assert network(peer) == found


def parts(traits: dict[int, frozenset[str]]) -> set[frozenset[int]]:
    """The connected parts, by repeated merging."""
    found = [({row}, set(mine)) for row, mine in traits.items()]
    for row in traits:
        near = [part for part in found if part[1] & traits[row] or row in part[0]]
        found = [part for part in found if part not in near]
        found.append((set().union(*(rows for rows, _ in near)), set().union(*(seen for _, seen in near))))
    return {frozenset(rows) for rows, _ in found}


@given(st.lists(st.tuples(st.integers(0, 8), st.frozensets(st.sampled_from("abcdefgh"), max_size=3)), max_size=40))
def test_rows_have_one_code_if_and_only_if_they_are_linked(said: list[tuple[int, frozenset[str]]]) -> None:
    operators, traits, codes = Operators(), dict[int, frozenset[str]](), dict[int, int]()
    for row, mine in said:
        codes |= operators.put(row, mine)
        traits[row] = mine

    by_code: dict[int, set[int]] = {}
    for row, code in codes.items():
        by_code.setdefault(code, set()).add(row)
        assert operators.code(row) == code
    assert {frozenset(rows) for rows in by_code.values()} == parts(traits)
    for rows in by_code.values():
        assert operators.traits(min(rows)) == frozenset[str]().union(*(traits[row] for row in rows))
