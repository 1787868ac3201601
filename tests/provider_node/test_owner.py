"""What a node takes and what it declines, with the sentence that the coordinator hears."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.provider_side import (
    DATA,
    DEADLINE_S,
    MARKET,
    RENTER,
    STRANGER,
    audit,
    lease,
    ref,
    reserved,
    signed_order,
    spec,
    task,
)
from gristmill_protocol.errors import BadRequest, BadSignature, NotAllowed
from gristmill_protocol.jobs import ArtifactRef, JobSpec, TrainTask
from gristmill_protocol.money import cost_usd_micros
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.config import Network, NodeConfig
from gristmill_provider.owner import read_asked, require_terms, require_welcome

FLOPS_PER_S = 1_000_000_000
NOW_S = 1_000


def take(message: pb.LeaseOffer, config: NodeConfig, *, now_s: float = NOW_S) -> None:
    asked = read_asked(message, MARKET)
    require_welcome(asked, message.image, config)
    require_terms(message, asked, config=config, market=MARKET, flops_per_s=FLOPS_PER_S, now_s=now_s)


def test_a_lease_in_order_is_taken(config: NodeConfig) -> None:
    take(lease(), config)


def test_the_process_backend_runs_nobody_elses_jobs(config: NodeConfig) -> None:
    with pytest.raises(NotAllowed, match="only its owner's own jobs"):
        take(lease(renter=STRANGER), config)


def test_hosts_that_the_owner_does_not_allow_are_declined(config: NodeConfig) -> None:
    allows = config.model_copy(update={"network": Network(allow=("pypi.org", "a.example.org"))})
    wanted = lease(task(network=("pypi.org", "evil.example", "hub.example")))

    take(lease(task(network=("pypi.org",))), allows)
    with pytest.raises(NotAllowed, match=r"does not allow access to evil\.example, hub\.example\."):
        take(wanted, allows)
    with pytest.raises(NotAllowed, match="does not allow access to pypi"):
        take(lease(task(network=("pypi.org",))), config)


def test_a_container_runs_anybodys_jobs(config: NodeConfig) -> None:
    take(lease(renter=STRANGER), config.model_copy(update={"backend": "docker", "own_renters": ()}))


def test_a_stranger_cannot_order_in_the_owners_name(config: NodeConfig) -> None:
    forged = signed_order(spec(), renter=STRANGER)
    forged = forged.model_copy(update={"order": forged.order.model_copy(update={"key": RENTER.address})})

    with pytest.raises(BadSignature, match="was signed by"):
        take(lease(signed_order_json=forged.model_dump_json()), config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec_json": spec(name="another").model_dump_json()}, "another job"),
        ({"task_json": task(data=ref(b"poison")).model_dump_json()}, "not what the order asks for"),
        ({"task_json": task(recipe="text-sorter").model_dump_json()}, "not what the order asks for"),
        ({"task_json": task(seed=8).model_dump_json()}, "not what the order asks for"),
        ({"task_json": task(model={"m": ref(b"model")}).model_dump_json()}, "not what the order asks for"),
        ({"task_json": task("../../etc").model_dump_json()}, "id is malformed"),
        ({"task_json": "{}"}, "cannot be read"),
        ({"spec_json": spec().model_dump_json().replace('"settings":{}', '"settings":{"x":NaN}')}, "another job"),
        ({"promise": reserved(nonce=6)}, "another order"),
        ({"promise": reserved(renter=STRANGER)}, "another order"),
        ({"promise": reserved(provider=4)}, "another provider's"),
        ({"promise": reserved(coordinator=2)}, "another coordinator's"),
        ({"promise": reserved(operator=STRANGER)}, "was signed by"),
        ({"attempt_id": "attempt_9"}, "another task"),
        ({"flops": 0}, "how much work"),
        ({"promise": reserved(cap_usd_micros=600_001)}, "more than the cap"),
        ({"promise": reserved(cap_usd_micros=399_999)}, "more than the cap"),
        ({"signed_reservation_json": "{}"}, "cannot be read"),
    ],
)
def test_a_lease_that_does_not_hold_together_is_declined(
    changes: dict[str, Any], words: str, config: NodeConfig
) -> None:
    with pytest.raises((BadRequest, BadSignature), match=words):
        take(lease(**changes), config)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"recipes": ("text-sorter",)}, "does not allow the recipe 'image-sorter'"),
        ({"image": "trainer@sha256:1"}, "allows only the image"),
        ({"ask_usd_per_gpu_hour": "0.400001"}, "400000 is below the owner's, 400001"),
    ],
)
def test_the_owners_rules_decide(rules: dict[str, Any], words: str, config: NodeConfig) -> None:
    with pytest.raises(NotAllowed, match=words):
        take(lease(image="trainer@sha256:0"), config.model_copy(update={"image": "trainer@sha256:0", **rules}))


HUGE = ArtifactRef(sha256="ab" * 32, size_bytes=20 * 1024**3 + 1)
HALF = ArtifactRef(sha256="cd" * 32, size_bytes=10 * 1024**3 + 1)


@pytest.mark.parametrize(
    ("of", "wanted"),
    [
        (spec(data=HUGE), task(data=HUGE)),
        (spec(), task(step_from=4, segment_index=1, state=HUGE)),
        (spec(held_out=HUGE), task(data=HUGE, model={"model.bin": ref(b"model")})),
        (spec(held_out=ref(DATA)), task(model={"1.bin": HALF, "2.bin": HALF})),
    ],
)
def test_no_more_is_downloaded_than_the_owner_allows(of: JobSpec, wanted: TrainTask, config: NodeConfig) -> None:
    asked = read_asked(lease(wanted, of=of), MARKET)

    with pytest.raises(NotAllowed, match=r"larger than the 20 GiB"):
        require_welcome(asked, "", config)
    limits = config.limits.model_copy(update={"data_gib": 20.1})
    require_welcome(asked, "", config.model_copy(update={"limits": limits}))


def test_an_order_past_its_deadline_is_declined(config: NodeConfig) -> None:
    with pytest.raises(BadRequest, match="deadline has passed"):
        take(lease(), config, now_s=2**39)


def test_there_must_be_time_to_settle_without_the_coordinator(config: NodeConfig) -> None:
    take(lease(promise=reserved(forced_from_s=DEADLINE_S - 86_400)), config)
    with pytest.raises(BadRequest, match="less than a day"):
        take(lease(promise=reserved(forced_from_s=DEADLINE_S - 86_399)), config)


def test_an_order_to_another_coordinator_is_declined(config: NodeConfig) -> None:
    order = signed_order(spec(), coordinator=2)

    with pytest.raises(BadRequest, match="another coordinator"):
        take(lease(signed_order_json=order.model_dump_json()), config)


def test_a_moved_job_needs_only_its_rest_under_the_cap(config: NodeConfig) -> None:
    moved = task(step_from=5, segment_index=1)

    take(lease(moved, price_usd_micros=1_200_000), config)


@given(ask=st.integers(0, 5_000_000), flops=st.integers(1, 10**16), price=st.integers(0, 600_000))
def test_no_lease_below_the_owners_price_is_taken(ask: int, flops: int, price: int) -> None:
    config = NodeConfig.model_construct(
        provider_id=3,
        own_renters=(),
        recipes=("image-sorter",),
        ask_usd_per_gpu_hour=f"{ask // 10**6}.{ask % 10**6:06d}",
    )
    offered = lease(price_usd_micros=price, flops=flops)
    asked = read_asked(offered, MARKET)
    worth = cost_usd_micros(ask, flops * 1000 // FLOPS_PER_S)

    try:
        require_terms(offered, asked, config=config, market=MARKET, flops_per_s=FLOPS_PER_S, now_s=NOW_S)
    except NotAllowed:
        assert price < worth
    else:
        assert price >= worth


def test_an_audit_needs_the_renters_order_too(config: NodeConfig) -> None:
    asked = read_asked(audit(), MARKET)

    require_welcome(asked, "", config)
    with pytest.raises(NotAllowed):
        require_welcome(asked, "", config.model_copy(update={"own_renters": (STRANGER.address,)}))
