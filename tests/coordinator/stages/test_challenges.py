"""Cards show what they can do before they get anybody's jobs, and lose nothing but their offer when they don't."""

import pytest
import sqlalchemy as sa

from fakes.machine import Machine
from fakes.prover import Prover
from fakes.world import World
from gristmill_coordinator import views
from gristmill_coordinator.store.tables import challenges
from gristmill_protocol.api import OfferView
from gristmill_protocol.challenges import Sizes
from gristmill_protocol.errors import NoOfferFits

pytestmark = pytest.mark.slow


class Guesser(Prover):
    """Has the bits of another challenge."""

    def __init__(self, seed: bytes, sizes: Sizes) -> None:
        super().__init__(b"guess" + seed, sizes)


async def offer(world: World, name: str) -> OfferView:
    return next(one for one in await views.market(world.co) if one.provider_name == name)


async def verdict(world: World, machine: Machine, *, times: int = 1) -> OfferView:
    """The machine's offer after it has been judged so often."""
    for _ in range(40):
        if len(machine.verdicts) >= times:
            return await offer(world, machine.name)
        await world.tick()
    raise AssertionError(f"{machine.name} was judged {len(machine.verdicts)} times")


async def known_kind(world: World, owners: int = 6) -> None:
    """So many honest owners' cards have passed, each in two seconds."""
    for number in range(owners):
        await world.add_machine(f"elm{number}", proven=False, thinks_s=1.0)
    for number in range(owners):
        await verdict(world, world.machines[f"elm{number}"])


async def test_an_untested_card_gets_nobodys_jobs_until_it_has_passed(world: World) -> None:
    willow = await world.add_machine("willow", proven=False)
    await world.add_machine("oak", proven=False, prover=None)

    before = await offer(world, "willow")
    assert (before.standing, before.proven_ms) == ("untested", 0)
    with pytest.raises(NoOfferFits, match=r"a card that has passed its test, or the renter's own machine \(2\)"):
        await world.submit()

    after = await verdict(world, willow)
    assert (after.standing, after.proven_ms > 0) == ("provisional", True)
    job_id = (await world.submit()).job_id
    view = await world.finish(job_id)
    assert view.attempts[0].provider_name == "willow"


async def test_its_own_renter_need_not_wait(world: World) -> None:
    willow = await world.add_machine("willow", proven=False, prover=None)
    willow.offer.own_renters.append(world.renter_key)
    await willow.connect(world.co)
    await world.add_machine("oak")

    view = await world.submit()

    assert view.price_usd_micros > 0


async def test_a_wrong_answer_in_a_known_kind_removes_the_offer_and_takes_no_stake(world: World) -> None:
    await known_kind(world, owners=1)
    crow = await world.add_machine("crow", proven=False, prover=Guesser)

    view = await verdict(world, crow)

    assert view.standing == "removed"
    assert view.standing_text.startswith("Its card failed its test: ")
    assert [one.reason for one in crow.verdicts] == [view.standing_text]
    assert (await world.co.chain.provider(crow.provider)).active


async def test_a_wrong_answer_with_an_unknown_driver_is_quarantined_with_its_sentence(world: World) -> None:
    await known_kind(world, owners=1)
    crow = await world.add_machine("crow", proven=True, prover=Guesser)
    crow.offer.driver = "999.0"

    await crow.connect(world.co)  # another driver: what was proven does not hold any more
    view = await verdict(world, crow)

    assert view.standing == "quarantined"
    assert "the driver '999.0': the driver may be at fault" in view.standing_text


async def test_a_slow_card_of_a_known_kind_loses_its_offer_and_gets_it_back(world: World) -> None:
    await known_kind(world)
    snail = await world.add_machine("snail", proven=False, thinks_s=3.0)

    slow = await verdict(world, snail)
    assert slow.standing == "removed"
    assert "135 % is the limit" in slow.standing_text

    snail.thinks_s = 1.0
    world.clock.now_s += world.co.config.test_again_s
    assert (await verdict(world, snail, times=2)).standing == "proven"


async def test_a_card_behind_two_names_answers_twice_at_once(world: World) -> None:
    """Both start at the same instant with seeds of their own, so that the shared card takes twice the time."""
    await known_kind(world)
    names = [await world.add_machine(name, proven=False, thinks_s=3.0) for name in ("one", "two")]

    offers = [await verdict(world, machine) for machine in names]

    assert [view.standing for view in offers] == ["removed", "removed"]
    async with world.co.store.read() as tx:
        mine = challenges.c.node_id.in_([machine.node_id for machine in names])
        rows = await tx.rows(sa.select(challenges).where(mine))
    assert len(rows) == 2
    assert len({(row.cohort_id, row.started_s) for row in rows}) == 1
    assert len({row.seed for row in rows}) == 2


async def test_idle_cards_are_tested_about_daily_and_busy_ones_are_not(world: World) -> None:
    willow = await world.add_machine("willow")
    oak = await world.add_machine("oak", slots=2)
    for _ in range(3):
        await world.tick()
    assert (willow.tested, oak.tested) == ([], [])
    job_id = (await world.submit()).job_id
    await world.until_steps(job_id, 2)
    running = willow if willow.runs else oak
    idle = oak if running is willow else willow

    world.clock.now_s += world.co.config.test_every_s
    for machine in (willow, oak):
        await machine._beat(world.co)
    await world.tick()

    assert running.tested == []
    assert len(idle.tested) <= 1


async def test_a_card_that_was_asked_and_says_nothing_is_quarantined(world: World) -> None:
    await world.add_machine("crow", proven=False, thinks_s=10_000.0)
    for _ in range(4):
        await world.tick()
    for _ in range(15):
        await world.tick(8.0)

    view = await offer(world, "crow")

    assert view.standing == "quarantined"
    assert "gave no answer" in view.standing_text


async def test_nobody_answers_for_another_node(world: World) -> None:
    crow = await world.add_machine("crow", proven=False, thinks_s=10_000.0)
    willow = await world.add_machine("willow")
    for _ in range(3):
        await world.tick()
    [challenge_id] = crow.tested

    willow.provers[challenge_id] = Prover(b"x")
    willow.thinking[challenge_id] = (0.0, b"x")
    willow.sizes = crow.sizes
    await world.tick()

    assert (await offer(world, "crow")).standing == "untested"
