"""Python signs what contracts/test/Vectors.t.sol reads: vectors made by hand (make_vectors.py) bind both."""

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from gristmill_protocol.jobs import Reservation, Statement, StatementLine
from gristmill_protocol.signing import (
    RESERVATION_TYPE,
    STATEMENT_TYPE,
    Domain,
    encode_statement,
    recover,
    reservation_message,
    sign,
    statement_message,
)

SIGNER = Account.from_key("0x" + "11" * 32)


@pytest.fixture
def golden(vectors: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((vectors / "statements.json").read_text())
    return loaded


def test_statements_are_signed_and_encoded_as_in_the_vectors(golden: dict[str, Any]) -> None:
    domain = Domain.ledger(golden["chain_id"], golden["ledger"])
    for vector in golden["statements"]:
        lines = tuple(
            StatementLine(provider=p, verifier=v, recipe=r, amount_usd_micros=amount)
            for p, v, r, amount in vector["lines"]
        )
        statement = Statement(nonce=vector["nonce"], deadline_s=vector["deadline_s"], lines=lines)
        message = statement_message(statement)

        assert statement.total_usd_micros == vector["total"]
        assert sign(SIGNER, domain, STATEMENT_TYPE, message) == vector["signature"]
        assert recover(domain, STATEMENT_TYPE, message, vector["signature"]).lower() == golden["key"]
        assert "0x" + encode_statement(statement, vector["signature"]).hex() == vector["wire"]


def test_reservations_are_signed_as_in_the_vectors(golden: dict[str, Any]) -> None:
    domain = Domain.ledger(golden["chain_id"], golden["ledger"])
    for vector in golden["reservations"]:
        made = Reservation(
            key=vector["key"],
            coordinator=vector["coordinator"],
            provider=vector["provider"],
            nonce=vector["nonce"],
            cap_usd_micros=vector["cap"],
            accepted_usd_micros=vector["accepted"],
            forced_from_s=vector["forcedFrom"],
        )
        message = reservation_message(made)

        assert sign(SIGNER, domain, RESERVATION_TYPE, message) == vector["signature"]
