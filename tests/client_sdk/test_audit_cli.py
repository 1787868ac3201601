"""`gristmill audit` and what is asked of the chain, against a chain that says what a test lets it say."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from eth_utils.abi import event_abi_to_log_topic

from fakes.certified import BEACON, MARKET, Certified
from gristmill import ChainUnavailable
from gristmill._chain_facts import ChainFacts
from gristmill.testing import FakeCoordinator
from gristmill_contracts.artifacts import artifact
from gristmill_protocol.api import AuditsView

TRUE = Certified()
WINDOW = TRUE.evidence()
PAYMENT = TRUE.predicate().payment


def topic(contract: str, event: str) -> str:
    [found] = [one for one in artifact(contract).abi if one["type"] == "event" and one["name"] == event]
    return "0x" + event_abi_to_log_topic(found).hex()


class Chain:
    """One anchor in block 7 and one payment; change them to have it disagree."""

    def __init__(self) -> None:
        self.chain_id = hex(MARKET.chain_id)
        self.operator = MARKET.operator.lower()
        self.anchors = [{"transactionHash": WINDOW.anchor_tx, "blockNumber": "0x7", "logIndex": "0x0"}]
        self.beacons = {"0x8": "0x" + BEACON}
        self.ledger, self.nonce, self.paid = MARKET.ledger, PAYMENT.nonce, 100
        self.asked: list[dict[str, Any]] = []

    def facts(self) -> ChainFacts:
        return ChainFacts("http://node", wire=httpx.MockTransport(self.answer))

    def answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        result: Any = {
            "eth_chainId": lambda: self.chain_id,
            "eth_call": lambda to, at: "0x" + "00" * 12 + self.operator[2:],
            "eth_getLogs": lambda wanted: self.anchors,
            "eth_getBlockByNumber": lambda number, whole: {"mixHash": self.beacons.get(number)},
            "eth_getTransactionReceipt": lambda tx: {"logs": [self.payment()]},
        }[body["method"]](*body["params"])
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result})

    def payment(self) -> dict[str, Any]:
        topics = [topic("Ledger", "StatementSettled"), "0x0", hex(self.nonce)]
        return {"address": self.ledger, "topics": topics, "data": hex(self.paid)}


@pytest.fixture
def chain() -> Chain:
    return Chain()


def problems(chain: Chain) -> list[str]:
    facts = chain.facts()
    found = [*facts.check_market(MARKET), *facts.check_anchor(WINDOW, registry=MARKET.registry, coordinator=1)]
    return [finding.text for finding in found if finding.mark == "wrong"]


def test_a_chain_that_agrees_is_believed(chain: Chain) -> None:
    assert problems(chain) == []
    assert [asked["method"] for asked in chain.asked] == [
        "eth_chainId",
        "eth_call",
        "eth_getLogs",
        "eth_getBlockByNumber",
    ]


def test_the_chain_is_asked_for_the_contracts_own_events(chain: Chain) -> None:
    facts = chain.facts()
    assert [one.mark for one in facts.check_anchor(WINDOW, registry=MARKET.registry, coordinator=1)] == ["ok", "ok"]

    [wanted] = chain.asked[0]["params"]

    assert wanted["topics"] == [topic("Registry", "Anchored"), f"0x{1:064x}", f"0x{WINDOW.anchor_root}"]


@pytest.mark.parametrize(
    "changes", [{}, {"paid": 99}, {"nonce": PAYMENT.nonce + 1}, {"ledger": MARKET.registry}], ids=str
)
def test_a_payment_is_the_ledgers_event_of_this_nonce_and_amount(chain: Chain, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(chain, name, value)

    [finding] = chain.facts().check_payment(PAYMENT, MARKET)

    assert finding.mark == ("wrong" if changes else "ok")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"chain_id": "0x1"}, "The node is of chain 1."),
        ({"operator": "0x" + "99" * 20}, "On chain, the operator of coordinator 1 is 0x99"),
        ({"anchors": []}, "the chain knows no anchor of the root"),
        ({"beacons": {"0x8": "0x" + "ef" * 32}}, "the block after its anchor has the random number 0xefef"),
        ({"beacons": {}}, "the block after its anchor has the random number None"),
    ],
)
def test_a_chain_that_disagrees_is_named(chain: Chain, changes: dict[str, Any], sentence: str) -> None:
    for name, value in changes.items():
        setattr(chain, name, value)

    assert any(sentence in problem for problem in problems(chain))


def test_only_a_roots_first_anchor_counts(chain: Chain) -> None:
    """Or a coordinator would anchor it again until the beacon suits."""
    chain.anchors.append({"transactionHash": "0x" + "f1" * 32, "blockNumber": "0x5", "logIndex": "0x3"})

    assert any(f"anchored first by 0x{'f1' * 32}" in problem for problem in problems(chain))


def test_a_node_that_is_away_or_refuses_is_an_error() -> None:
    refusing = httpx.MockTransport(lambda request: httpx.Response(200, json={"error": {"message": "range too wide"}}))
    for wire in (refusing, httpx.MockTransport(lambda request: httpx.Response(502))):
        with pytest.raises(ChainUnavailable):
            ChainFacts("http://node", wire=wire).check_chain(1)


@pytest.fixture
def public(fake: FakeCoordinator) -> AuditsView:
    view = AuditsView(job_id="job_1", chain_id=31337, registry=MARKET.registry, coordinator=1, windows=(WINDOW,))
    fake.audit_views["job_1"] = view
    return view


def test_a_draw_is_repeated_beside_what_the_coordinator_says(public: AuditsView, cli: Callable[..., Any]) -> None:
    drawn = cli("audit", "draw", "job_1")
    verified = cli("audit", "verify", "job_1")

    assert (drawn.code, verified.code) == (0, 0)
    assert "as the coordinator says" in drawn.out
    assert "· Anchors and beacons are as the coordinator says" in verified.out


def test_a_wrong_draw_ends_with_1(public: AuditsView, fake: FakeCoordinator, cli: Callable[..., Any]) -> None:
    lie = WINDOW.model_copy(update={"drawn": (0,)})
    fake.audit_views["job_1"] = public.model_copy(update={"windows": (lie,)})

    ran = cli("audit", "draw", "job_1", "--json")

    assert ran.code == 1
    [finding] = json.loads(ran.out)["findings"]
    assert (finding["mark"], "but the coordinator says segment 0" in finding["text"]) == ("wrong", True)
    assert cli("audit", "verify", "job_1").code == 1
    assert cli("audit", "draw", "job_2").code == 4
