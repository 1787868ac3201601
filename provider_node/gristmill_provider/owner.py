"""May this run here, now? The owner's rules and the renter's signature decide, never the coordinator's word."""

import re
from dataclasses import dataclass

from pydantic import ValidationError

from gristmill_protocol.errors import BadRequest, BadSettings, NotAllowed
from gristmill_protocol.jobs import JobSpec, Order, SignedOrder, SignedReservation, TrainTask
from gristmill_protocol.money import cost_usd_micros, earned
from gristmill_protocol.signing import (
    ORDER_TYPE,
    RESERVATION_TYPE,
    Domain,
    order_message,
    require_signer,
    reservation_message,
)
from gristmill_protocol.v1 import provider_pb2 as pb
from gristmill_provider.config import Limits, NodeConfig

# For an owner whose coordinator is gone: `gristmill-node settle --direct`.
_TIME_TO_SETTLE_S = 86_400

# Ids become names of folders.
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class OtherChain(BadSettings):
    """The contracts that the node deals with are on another chain than the one that was asked."""


@dataclass(frozen=True)
class Market:
    """Whom the node deals with, as the coordinator introduced itself.

    Args:
        ledger, registry: the domains in which renters and nodes sign.
        coordinator: the Ledger's coordinator id.
        operator: the address that signs reservations.
    """

    ledger: Domain
    registry: Domain
    coordinator: int
    operator: str


@dataclass(frozen=True)
class Asked:
    """What somebody wants run, read and checked to be what the renter signed."""

    order: SignedOrder
    spec: JobSpec
    task: TrainTask


def read_asked(message: pb.LeaseOffer | pb.AuditRequest, market: Market) -> Asked:
    """The order, the spec it signs and the task that carries it out.

    Raises:
        BadRequest: unreadable, not signed by the key it names, or not one and the same thing.
    """
    try:
        asked = Asked(
            order=SignedOrder.model_validate_json(message.signed_order_json),
            spec=JobSpec.model_validate_json(message.spec_json),
            task=TrainTask.model_validate_json(message.task_json),
        )
    except ValidationError as err:
        raise BadRequest(f"The request cannot be read: {err.errors(include_url=False)[0]['msg']}.") from err
    order, spec, task = asked.order.order, asked.spec, asked.task
    require_signer(market.ledger, ORDER_TYPE, order_message(order), asked.order.signature, order.key)
    if order.coordinator != market.coordinator:
        raise BadRequest("The order was given to another coordinator.")
    if spec.digest().hex() != order.spec_digest:
        raise BadRequest("The order is for another job than the one that was sent.")
    data = spec.held_out if task.model else spec.data
    if (task.recipe, task.data, task.seed) != (spec.recipe, data, spec.seed):
        raise BadRequest("The task is not what the order asks for.")
    if not _ID.fullmatch(task.attempt_id):
        raise BadRequest("The attempt's id is malformed.")
    return asked


def require_welcome(asked: Asked, image: str, config: NodeConfig) -> None:
    """What holds for leases and audits alike: whose jobs, which recipes, which image, which hosts, how much data.

    Raises:
        NotAllowed: with the rule that forbids it.
    """
    spec = asked.spec
    renters = {key.lower() for key in config.own_renters}
    if renters and asked.order.order.key.lower() not in renters:
        raise NotAllowed("This node runs only its owner's own jobs.")
    if spec.recipe not in config.recipes:
        raise NotAllowed(f"The owner does not allow the recipe {spec.recipe!r}.")
    if image and image != config.image:
        raise NotAllowed(f"The owner allows only the image {config.image!r}.")
    if beyond := sorted(set(asked.task.network) - set(config.network.allow)):
        raise NotAllowed(f"The owner does not allow access to {', '.join(beyond)}.")
    _require_small(asked.task, config.limits)


def require_terms(
    lease: pb.LeaseOffer, asked: Asked, *, config: NodeConfig, market: Market, flops_per_s: int, now_s: float
) -> SignedReservation:
    """What holds for leases: the price meets the owner's ask, and it is certain to be paid. Gives what says so.

    Raises:
        NotAllowed, BadRequest: with what is missing.
    """
    order = asked.order.order
    if not lease.flops:
        raise BadRequest("The lease does not say how much work it is, so its price cannot be judged.")
    floor = cost_usd_micros(config.ask_usd_micros_per_gpu_hour, lease.flops * 1000 // flops_per_s)
    if lease.price_usd_micros < floor:
        raise NotAllowed(f"The price of {lease.price_usd_micros} is below the owner's, {floor} micro-USD.")
    task = asked.task
    if (lease.attempt_id, lease.job_id) != (task.attempt_id, task.job_id):
        raise BadRequest("The lease is for another task than the one that was sent.")
    if order.deadline_s <= now_s:
        raise BadRequest("The order's deadline has passed, so the work could not be paid.")
    pays = earned(lease.price_usd_micros, task.steps - task.step_from, task.steps)
    promise = _require_backed(lease, order, pays)
    require_promise(promise, market, provider=config.provider_id)
    return promise


def require_promise(promise: SignedReservation, market: Market, *, provider: int) -> None:
    """Raises:
    BadRequest: it was given to another provider, or by another coordinator.
    BadSignature: the coordinator's operator did not sign it.
    """
    reservation = promise.reservation
    if (reservation.coordinator, reservation.provider) != (market.coordinator, provider):
        raise BadRequest("The reservation is another provider's or another coordinator's.")
    message = reservation_message(reservation)
    require_signer(market.ledger, RESERVATION_TYPE, message, promise.signature, market.operator)


def _require_small(task: TrainTask, limits: Limits) -> None:
    """Each of a task's inputs is held to the same limit; no download may exceed the size that is said here."""
    inputs = {
        "data": task.data.size_bytes,
        "state": 0 if task.state is None else task.state.size_bytes,
        "model": sum(file.size_bytes for file in task.model.values()),
    }
    for name, size_bytes in inputs.items():
        if size_bytes > limits.data_bytes:
            raise NotAllowed(f"The {name} is larger than the {limits.data_gib} GiB that the owner allows.")


def _require_backed(lease: pb.LeaseOffer, order: Order, pays_usd_micros: int) -> SignedReservation:
    """The promise that the renter's balance backs the work, its signature not checked yet."""
    try:
        promise = SignedReservation.model_validate_json(lease.signed_reservation_json)
    except ValidationError as err:
        raise BadRequest(f"The reservation cannot be read: {err.errors(include_url=False)[0]['msg']}.") from err
    reservation = promise.reservation
    if not pays_usd_micros <= reservation.cap_usd_micros <= order.cap_usd_micros:
        raise BadRequest("The work would earn more than the cap that the renter signed.")
    if (reservation.key.lower(), reservation.nonce) != (order.key.lower(), order.nonce):
        raise BadRequest("The reservation is for another order than the one that was sent.")
    if order.deadline_s - reservation.forced_from_s < _TIME_TO_SETTLE_S:
        raise BadRequest("The reservation leaves less than a day to settle without the coordinator.")
    return promise
