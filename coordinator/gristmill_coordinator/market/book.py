"""The order book: which machine does a job for the lowest expected total, and why the others do not.

Offers are columns of NumPy arrays, so that one question to 100,000 of them is a handful of vector operations. The
order comes from float estimates; what is billed is computed exactly, for the few offers at the top.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gristmill_coordinator.domain import pricing
from gristmill_protocol.jobs import GpuNeeds, Message, Plan, Sha256Hex, UsdMicros

_GIB = 1024**3
_TOP = 16
_GROWTH = 256

Mask = NDArray[np.bool_]


class Terms(Message):
    """What a node offers, at which price."""

    device: str = Field(min_length=1, max_length=200)
    is_cpu: bool
    memory_bytes: int = Field(ge=0, lt=2**50)
    driver: str = Field(max_length=200)
    numeric_class: Sha256Hex
    flops_per_s: int = Field(gt=0, lt=2**62)
    ask_usd_micros_per_gpu_hour: UsdMicros = Field(lt=2**50)
    slots: int = Field(ge=0, le=1024)
    sandbox: str = Field(pattern="^(docker|process)$")
    own_renters: tuple[str, ...] = ()  # lower-case addresses; whose jobs the process backend runs
    paused: bool
    recipes: tuple[str, ...]


@dataclass(frozen=True)
class Offer:
    """A node and its terms."""

    node_id: str
    provider: int
    payout: str
    key: str
    name: str
    bonded_usd_micros: int
    terms: Terms

    def runs_for(self, renter: str) -> bool:
        """A process is no sandbox: without a container a node runs its owner's jobs only."""
        return self.terms.sandbox == "docker" or renter in self.terms.own_renters


@dataclass(frozen=True)
class Demand:
    """What a job asks of a machine."""

    renter: str
    recipe: str
    plan: Plan
    gpu: GpuNeeds
    verifier_bps: int
    royalty_bps: int
    excluded: frozenset[str] = frozenset()  # nodes that had their chance with this job


@dataclass(frozen=True)
class Fit:
    """An offer that can do the job, and what it costs there."""

    offer: Offer
    price: pricing.Price


@dataclass(frozen=True)
class Ranking:
    """Fits by rising price (the best 16), and requirement -> how many offers it excluded."""

    fits: tuple[Fit, ...]
    considered: int
    excluded: Mapping[str, int]

    def why_none(self) -> str:
        """One sentence: which requirement excluded how many."""
        if not self.considered:
            return "No machine is connected."
        reasons = ", ".join(f"{requirement} ({count})" for requirement, count in self.excluded.items())
        return f"Of {self.considered} offers none fits; these requirements excluded them: {reasons}."


class OrderBook:
    """Offers in memory. The store is the truth about them; the load is told by whoever has just read it."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._offers: list[Offer] = []
        self._classes: dict[str, int] = {}
        self._payouts: dict[str, int] = {}
        self._recipes: dict[str, Mask] = {}
        self._own: dict[str, set[int]] = {}
        self._heard = np.zeros(0)
        self._columns: dict[str, NDArray[Any]] = {
            "ask": np.zeros(0),
            "flops": np.zeros(0),
            "memory": np.zeros(0),
            "slots": np.zeros(0, np.int64),
            "load": np.zeros(0, np.int64),
            "class": np.zeros(0, np.int64),
            "payout": np.zeros(0, np.int64),
            "paused": np.zeros(0, np.bool_),
            "cpu": np.zeros(0, np.bool_),
            "anybody": np.zeros(0, np.bool_),
            "bonded": np.zeros(0, np.bool_),
        }

    def put(self, offer: Offer) -> None:
        """Add an offer, or replace the node's older one."""
        at = self._rows.setdefault(offer.node_id, len(self._offers))
        if at == len(self._offers):
            self._offers.append(offer)
            self._grow(at + 1)
        else:
            self._forget_sets(at)
            self._offers[at] = offer
        terms = offer.terms
        columns = self._columns
        columns["ask"][at] = terms.ask_usd_micros_per_gpu_hour
        columns["flops"][at] = terms.flops_per_s
        columns["memory"][at] = terms.memory_bytes
        columns["slots"][at] = terms.slots
        columns["class"][at] = self._classes.setdefault(terms.numeric_class, len(self._classes))
        columns["payout"][at] = self._payouts.setdefault(offer.payout.lower(), len(self._payouts))
        columns["bonded"][at] = offer.bonded_usd_micros > 0
        columns["paused"][at] = terms.paused
        columns["cpu"][at] = terms.is_cpu
        columns["anybody"][at] = terms.sandbox == "docker"
        for recipe in terms.recipes:
            self._recipes.setdefault(recipe, np.zeros(len(self._heard), np.bool_))[at] = True
        for renter in terms.own_renters:
            self._own.setdefault(renter, set()).add(at)

    def get(self, node_id: str) -> Offer | None:
        at = self._rows.get(node_id)
        return None if at is None else self._offers[at]

    def heard(self, node_id: str, at_s: float) -> None:
        """Note when a node was last heard; 0 when its stream has ended."""
        at = self._rows.get(node_id)
        if at is not None:
            self._heard[at] = at_s

    def heard_s(self, node_id: str) -> float:
        at = self._rows.get(node_id)
        return 0.0 if at is None else float(self._heard[at])

    def load(self, load: Mapping[str, int]) -> None:
        """Note how many attempts and audits each node has; nodes that are not named have none."""
        column = self._columns["load"]
        column[:] = 0
        for node_id, count in load.items():
            at = self._rows.get(node_id)
            if at is not None:
                column[at] = count

    def busy(self, node_id: str, more: int = 1) -> None:
        """Note that a node was just given more to do."""
        at = self._rows.get(node_id)
        if at is not None:
            self._columns["load"][at] += more

    def alive(self, since_s: float) -> list[Offer]:
        """Offers of the nodes heard since."""
        return [self._offers[at] for at in np.flatnonzero(self._heard[: len(self._offers)] >= since_s)]

    def free_slots(self, node_id: str) -> int:
        at = self._rows[node_id]
        return max(0, int(self._columns["slots"][at] - self._columns["load"][at]))

    def rank(self, demand: Demand, *, since_s: float, only: Collection[str] | None = None) -> Ranking:
        """The offers of nodes heard since that can do the job, cheapest first, with the reasons against the others.

        Args:
            only: consider these nodes alone.
        """
        count = len(self._offers)
        left = self._heard[:count] >= since_s
        if only is not None:
            left &= self._mask(only)
        considered = int(left.sum())
        excluded: dict[str, int] = {}
        for why, fits in self._requirements(demand, since_s):
            out = int((left & ~fits).sum())
            if out:
                excluded[why] = out
            left &= fits
        fits_at = self._cheapest(np.flatnonzero(left), demand)
        ranked = sorted((self._fit(at, demand) for at in fits_at), key=lambda fit: fit.price.usd_micros)
        return Ranking(tuple(ranked), considered, excluded)

    def verifiers(
        self, *, numeric_class: str, renter: str, recipe: str, since_s: float, without: Collection[str] = ()
    ) -> list[Offer]:
        """Bonded machines that can re-run a segment of this class bit for bit, busy ones included.

        Args:
            without: payout addresses (lower case) and node ids that must not check this work.
        """
        code = self._classes.get(numeric_class)
        if code is None:
            return []
        mask = self._can_verify(renter, recipe, since_s) & (self._column("class") == code)
        offers = [self._offers[at] for at in np.flatnonzero(mask)]
        return [o for o in offers if o.payout.lower() not in without and o.node_id not in without]

    def _requirements(self, demand: Demand, since_s: float) -> Iterable[tuple[str, Mask]]:
        """Each requirement in words, with the offers that meet it; an offer counts for the first it does not meet."""
        needed = max(demand.plan.peak_bytes, demand.gpu.memory_bytes)
        yield f"{needed / _GIB:.1f} GiB of memory", self._column("memory") >= needed
        if not demand.gpu.allow_cpu:
            yield "a graphics card", ~self._column("cpu")
        if demand.gpu.names:
            named = [any(name.lower() in o.terms.device.lower() for name in demand.gpu.names) for o in self._offers]
            yield " or ".join(demand.gpu.names), np.array(named, np.bool_)
        yield f"the recipe {demand.recipe!r}", self._runs(demand.recipe)
        yield "a container, or the renter's own machine", self._runs_for(demand.renter)
        yield "not paused by its owner", ~self._column("paused")
        yield "a bond", self._column("bonded")
        yield "not tried with this job before", ~self._mask(demand.excluded)
        yield "another owner's machine that can check the work", self._has_verifier(demand, since_s)
        yield "a free slot", self._column("load") < self._column("slots")

    def _has_verifier(self, demand: Demand, since_s: float) -> Mask:
        """Offers in whose numeric class there is an eligible verifier with another payout address.

        Among a class's payouts one differs from mine if and only if the lowest or the highest does.
        """
        able = self._can_verify(demand.renter, demand.recipe, since_s)
        codes, payouts = self._column("class"), self._column("payout")
        lowest = np.full(len(self._classes), len(self._payouts))
        highest = np.full(len(self._classes), -1)
        np.minimum.at(lowest, codes[able], payouts[able])
        np.maximum.at(highest, codes[able], payouts[able])
        mask: Mask = (highest[codes] >= 0) & ((lowest[codes] != payouts) | (highest[codes] != payouts))
        return mask

    def _can_verify(self, renter: str, recipe: str, since_s: float) -> Mask:
        heard: Mask = self._heard[: len(self._offers)] >= since_s
        slots: Mask = self._column("slots") > 0
        mask: Mask = heard & slots & self._column("bonded") & ~self._column("paused")
        return mask & self._runs(recipe) & self._runs_for(renter)

    def _cheapest(self, rows: NDArray[np.intp], demand: Demand) -> NDArray[np.intp]:
        if len(rows) <= _TOP:
            return rows
        rate = pricing.usd_micros_per_ms(1.0, verifier_bps=demand.verifier_bps, royalty_bps=demand.royalty_bps)
        duration_ms = pricing.STARTUP_MS + demand.plan.flops * 1000 / self._columns["flops"][rows]
        cost = self._columns["ask"][rows] * rate * duration_ms
        return rows[np.argpartition(cost, _TOP)[:_TOP]]

    def _fit(self, at: int, demand: Demand) -> Fit:
        offer = self._offers[at]
        price = pricing.price(
            demand.plan,
            ask_usd_micros_per_gpu_hour=offer.terms.ask_usd_micros_per_gpu_hour,
            flops_per_s=offer.terms.flops_per_s,
            verifier_bps=demand.verifier_bps,
            royalty_bps=demand.royalty_bps,
        )
        return Fit(offer, price)

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: len(self._offers)]

    def _runs(self, recipe: str) -> Mask:
        runs = self._recipes.get(recipe)
        mask: Mask = np.zeros(len(self._offers), np.bool_) if runs is None else runs[: len(self._offers)]
        return mask

    def _runs_for(self, renter: str) -> Mask:
        mask: Mask = self._column("anybody").copy()
        mask[list(self._own.get(renter, ()))] = True
        return mask

    def _mask(self, node_ids: Collection[str]) -> Mask:
        mask = np.zeros(len(self._offers), np.bool_)
        mask[[self._rows[node_id] for node_id in node_ids if node_id in self._rows]] = True
        return mask

    def _forget_sets(self, at: int) -> None:
        for recipe in self._offers[at].terms.recipes:
            self._recipes[recipe][at] = False
        for renter in self._offers[at].terms.own_renters:
            self._own[renter].discard(at)

    def _grow(self, needed: int) -> None:
        if needed <= len(self._heard):
            return
        more = max(_GROWTH, len(self._heard))
        self._heard = np.concatenate([self._heard, np.zeros(more)])
        self._columns = {k: np.concatenate([v, np.zeros(more, v.dtype)]) for k, v in self._columns.items()}
        self._recipes = {k: np.concatenate([v, np.zeros(more, np.bool_)]) for k, v in self._recipes.items()}
