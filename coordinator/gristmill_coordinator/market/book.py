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
from gristmill_coordinator.domain.cards import Standing
from gristmill_coordinator.domain.modes import WAYS, Checkers
from gristmill_coordinator.domain.sampling import lock_usd_micros
from gristmill_coordinator.market.operators import Operators
from gristmill_protocol.jobs import GpuNeeds, Message, Plan, Sha256Hex, UsdMicros
from gristmill_protocol.modes import Mode

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
    network: tuple[str, ...] = ()  # hosts that jobs may reach

    @property
    def for_anybody(self) -> bool:
        """In a container, or because its owner runs the whole market."""
        return self.sandbox == "docker" or not self.own_renters


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
    standing: Standing = Standing.PROVEN
    standing_text: str = ""
    proven_s: float = 0.0  # when its card last passed a test
    traits: frozenset[str] = frozenset()  # besides payout: funders (lower-case addresses) and network, see operators
    banned_until_s: float = 0.0  # unix time; from its numeric class
    refused_s: float = 0.0  # unix time at which it last did not do a check that it was drawn for

    def runs_for(self, renter: str) -> bool:
        """A process is no sandbox: without a container a node runs the jobs of its owner, or of its owner's market."""
        return self.terms.for_anybody or renter in self.terms.own_renters


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
    checkers: Checkers = Checkers.SAME_CLASS
    long_s: float = float("inf")  # a job that takes longer wants a card that was tested
    tested_since_s: float = 0.0  # after this


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
        self._operators = Operators()
        self._of_provider: dict[int, set[int]] = {}
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
            "operator": np.zeros(0, np.int64),
            "paused": np.zeros(0, np.bool_),
            "cpu": np.zeros(0, np.bool_),
            "anybody": np.zeros(0, np.bool_),
            "bond": np.zeros(0),
            "locked": np.zeros(0),
            "banned_until": np.zeros(0),
            "proven": np.zeros(0, np.bool_),
            "proven_s": np.zeros(0),
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
        for row, code in self._operators.put(at, offer.traits | {offer.payout.lower()}).items():
            columns["operator"][row] = code
        self._of_provider.setdefault(offer.provider, set()).add(at)
        columns["bond"][at] = offer.bonded_usd_micros
        columns["banned_until"][at] = offer.banned_until_s
        columns["paused"][at] = terms.paused
        columns["cpu"][at] = terms.is_cpu
        columns["anybody"][at] = terms.for_anybody
        columns["proven"][at] = offer.standing.proven
        columns["proven_s"][at] = offer.proven_s
        for recipe in terms.recipes:
            self._recipes.setdefault(recipe, np.zeros(len(self._heard), np.bool_))[at] = True
        for renter in terms.own_renters:
            self._own.setdefault(renter, set()).add(at)

    def get(self, node_id: str) -> Offer | None:
        at = self._rows.get(node_id)
        return None if at is None else self._offers[at]

    def related(self, node_id: str, other_id: str) -> bool:
        """Whether two nodes seem to be one owner's; a node that is not in the book is unknown to be."""
        mine, other = self._rows.get(node_id), self._rows.get(other_id)
        if mine is None or other is None:
            return False
        return self._operators.code(mine) == self._operators.code(other)

    def traits(self, node_id: str) -> frozenset[str]:
        """All addresses (lower case) and networks that are known of a node's owner."""
        at = self._rows.get(node_id)
        return frozenset() if at is None else self._operators.traits(at)

    def heard(self, node_id: str, at_s: float) -> None:
        """Note when a node was last heard; 0 when its stream has ended."""
        at = self._rows.get(node_id)
        if at is not None:
            self._heard[at] = at_s

    def heard_s(self, node_id: str) -> float:
        at = self._rows.get(node_id)
        return 0.0 if at is None else float(self._heard[at])

    def load(self, load: Mapping[str, int], locks: Mapping[int, int]) -> None:
        """Note how much there is to do; who is not named has nothing.

        Args:
            load: node id -> attempts and audits it has.
            locks: provider -> micro-USD of its bond that it stakes on live jobs.
        """
        locked = self._columns["locked"]
        locked[:] = 0
        for provider, amount in locks.items():
            self._lock(provider, amount)
        column = self._columns["load"]
        column[:] = 0
        for node_id, count in load.items():
            at = self._rows.get(node_id)
            if at is not None:
                column[at] = count

    def busy(self, node_id: str, more: int = 1, *, lock_usd_micros: int = 0) -> None:
        """Note that a node was just given more to do, and what its provider stakes on it."""
        at = self._rows.get(node_id)
        if at is not None:
            self._columns["load"][at] += more
            self._lock(self._offers[at].provider, lock_usd_micros)

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
        for why, fits in self._requirements(demand, since_s, left):
            out = int((left & ~fits).sum())
            if out:
                excluded[why] = out
            left &= fits
        fits_at = self._cheapest(np.flatnonzero(left), demand)
        ranked = sorted((self._fit(at, demand) for at in fits_at), key=lambda fit: fit.price.usd_micros)
        return Ranking(tuple(ranked), considered, excluded)

    def unmet(self, demand: Demand, *, since_s: float, nodes: Collection[str]) -> dict[str, str]:
        """Each of these nodes -> the first requirement that it does not meet, in words; "" where it can do the job."""
        left = self._mask(nodes)
        found = {self._offers[at].node_id: "" for at in np.flatnonzero(left)}
        for why, fits in self._requirements(demand, since_s, left):
            found |= {self._offers[at].node_id: why for at in np.flatnonzero(left & ~fits)}
            left &= fits
        return found

    def verifiers(
        self,
        *,
        numeric_class: str,
        renter: str,
        recipe: str,
        since_s: float,
        unrelated_to: Collection[str] = (),
        checkers: Checkers = Checkers.SAME_CLASS,
    ) -> list[Offer]:
        """Bonded machines that can check work of this class, busy ones included.

        Args:
            unrelated_to: nodes whose owners must not check this work.
        """
        mask = self._can_verify(renter, recipe, since_s)
        if checkers is not Checkers.ANY:
            same = self._column("class") == self._classes.get(numeric_class, -1)
            mask &= same if checkers is Checkers.SAME_CLASS else ~same
        own = [self._operators.code(self._rows[node_id]) for node_id in unrelated_to if node_id in self._rows]
        mask &= ~np.isin(self._column("operator"), own)
        return [self._offers[at] for at in np.flatnonzero(mask)]

    def _requirements(self, demand: Demand, since_s: float, left: Mask) -> Iterable[tuple[str, Mask]]:
        """Each requirement in words, with the offers that meet it; an offer counts for the first it does not meet.

        Args:
            left: who has met all so far; the others need not be looked at.
        """
        needed = max(demand.plan.peak_bytes, demand.gpu.memory_bytes)
        yield f"{needed / _GIB:.1f} GiB of memory", self._column("memory") >= needed
        if not demand.gpu.allow_cpu:
            yield "a graphics card", ~self._column("cpu")
        if demand.gpu.names:
            named = [any(name.lower() in o.terms.device.lower() for name in demand.gpu.names) for o in self._offers]
            yield " or ".join(demand.gpu.names), np.array(named, np.bool_)
        yield f"the recipe {demand.recipe!r}", self._runs(demand.recipe)
        for host in demand.plan.network:
            reach = [host in one.terms.network for one in self._offers]
            yield f"access to {host}", np.array(reach, np.bool_)
        yield "a container, or the renter's own machine", self._runs_for(demand.renter)
        yield "not paused by its owner", ~self._column("paused")
        yield "a bond", self._column("bond") > 0
        yield "no proven fraud in the last 30 days", self._column("banned_until") <= since_s
        own = self._owned_by(demand.renter)
        yield "a card that has passed its test, or the renter's own machine", self._column("proven") | own
        short = demand.plan.flops <= demand.long_s * self._column("flops")
        fresh = self._column("proven_s") >= demand.tested_since_s
        yield "a card that was tested just now, for so long a job", short | fresh | own
        yield "stake for another job", self._has_stake(demand, left)
        yield "not tried with this job before", ~self._mask(demand.excluded)
        if demand.checkers is not Checkers.OTHER_CLASSES:
            yield "another owner's machine that can check the work", self._has_verifier(demand, since_s)
        else:
            yield "two other owners' machines of another kind to check the work", self._has_foreign(demand, since_s)
        yield "a free slot", self._column("load") < self._column("slots")

    def _has_verifier(self, demand: Demand, since_s: float) -> Mask:
        """Offers in whose numeric class there is an eligible verifier of another operator.

        Among a class's operators one differs from mine if and only if the lowest or the highest does.
        """
        able = self._can_verify(demand.renter, demand.recipe, since_s)
        operators = self._column("operator")
        codes = self._column("class") if demand.checkers is Checkers.SAME_CLASS else np.zeros_like(operators)
        lowest = np.full(len(self._classes), np.iinfo(np.int64).max)
        highest = np.full(len(self._classes), -1)
        np.minimum.at(lowest, codes[able], operators[able])
        np.maximum.at(highest, codes[able], operators[able])
        mask: Mask = (highest[codes] >= 0) & ((lowest[codes] != operators) | (highest[codes] != operators))
        return mask

    def _has_stake(self, demand: Demand, left: Mask) -> Mask:
        """Offers whose provider has bond left for this job's lock, at its estimated cost."""
        plan = demand.plan
        share = lock_usd_micros(1_000_000, plan) / 1_000_000
        # To pick rows costs more than to compute all, unless they are few.
        few = 4 * np.count_nonzero(left) < len(left)
        rows = np.flatnonzero(left) if few else slice(len(left))
        mask: Mask = np.zeros(len(left), np.bool_)
        free = self._columns["bond"][rows] - self._columns["locked"][rows]
        mask[rows] = self._cost(rows, demand) * share <= free
        return mask

    def _has_foreign(self, demand: Demand, since_s: float) -> Mask:
        """Offers for which two other operators have eligible verifiers of another numeric class.

        An operator counts for a class unless all its eligible machines are of that class.
        """
        able = self._can_verify(demand.renter, demand.recipe, since_s)
        codes = self._column("class")
        known, operators = np.unique(self._column("operator"), return_inverse=True)
        lowest = np.full(len(known), len(self._classes))
        highest = np.full(len(known), -1)
        np.minimum.at(lowest, operators[able], codes[able])
        np.maximum.at(highest, operators[able], codes[able])
        only = np.where(lowest == highest, highest, -1)
        of_one_class = np.bincount(only[only >= 0], minlength=len(self._classes))
        own = (highest[operators] >= 0) & (only[operators] != codes)
        mask: Mask = (highest >= 0).sum() - of_one_class[codes] - own >= WAYS[Mode.TOLERANCE].verifiers
        return mask

    def _can_verify(self, renter: str, recipe: str, since_s: float) -> Mask:
        heard: Mask = self._heard[: len(self._offers)] >= since_s
        slots: Mask = self._column("slots") > 0
        trusted: Mask = (self._column("bond") > 0) & (self._column("banned_until") <= since_s)
        mask: Mask = heard & slots & trusted & ~self._column("paused")
        return mask & self._runs(recipe) & self._runs_for(renter)

    def _cheapest(self, rows: NDArray[np.intp], demand: Demand) -> NDArray[np.intp]:
        if len(rows) <= _TOP:
            return rows
        return rows[np.argpartition(self._cost(rows, demand), _TOP)[:_TOP]]

    def _cost(self, rows: NDArray[np.intp] | slice, demand: Demand) -> NDArray[np.float64]:
        """About what the job costs on these offers, micro-USD, without its downloads."""
        rate = pricing.usd_micros_per_ms(1.0, verifier_bps=demand.verifier_bps, royalty_bps=demand.royalty_bps)
        work_ms = demand.plan.limit_s * 1000 or demand.plan.flops * 1000 / self._columns["flops"][rows]
        duration_ms = pricing.STARTUP_MS + work_ms
        cost: NDArray[np.float64] = self._columns["ask"][rows] * rate * duration_ms
        return cost

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
        mask: Mask = self._column("anybody") | self._owned_by(renter)
        return mask

    def _owned_by(self, renter: str) -> Mask:
        mask: Mask = np.zeros(len(self._offers), np.bool_)
        mask[list(self._own.get(renter, ()))] = True
        return mask

    def _mask(self, node_ids: Collection[str]) -> Mask:
        mask = np.zeros(len(self._offers), np.bool_)
        mask[[self._rows[node_id] for node_id in node_ids if node_id in self._rows]] = True
        return mask

    def _lock(self, provider: int, amount: int) -> None:
        self._columns["locked"][list(self._of_provider.get(provider, ()))] += amount

    def _forget_sets(self, at: int) -> None:
        self._of_provider[self._offers[at].provider].discard(at)
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
