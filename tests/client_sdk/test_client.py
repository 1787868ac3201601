"""Planning, ordering and accounts, against a coordinator that checks every signature."""

from pathlib import Path

import pytest
from eth_account import Account

import gristmill as gm
from gristmill import Client
from gristmill.testing import FakeCoordinator
from gristmill_protocol.api import InfoView


def test_plan_says_what_it_takes_and_costs_at_most(client: Client, mails: Path) -> None:
    plan = client.plan("text-sorter", data=mails, budget=0.5)

    assert str(plan) == "About 6 min, at most 0.12 USD; 40 examples, 2 answers"


def test_plan_uploads_and_orders_nothing(client: Client, fake: FakeCoordinator, mails: Path) -> None:
    client.plan("text-sorter", data=mails)

    assert not fake.artifacts
    assert client.jobs() == []


def test_plan_without_a_budget_is_limited_by_its_cap(client: Client, mails: Path) -> None:
    job = client.plan("text-sorter", data=mails).start()

    assert job.view().cap_usd_micros == 120_000


def test_budget_limits_the_cap(client: Client, mails: Path) -> None:
    assert client.plan("text-sorter", data=mails, budget="0.09").cap_usd_micros == 90_000


def test_train_orders_a_job_under_a_name(client: Client, mails: Path) -> None:
    job = client.train("text-sorter", data=mails, budget="0.50", name="my mails")

    assert job.state is gm.JobState.QUEUED
    assert job.view().name == "my mails"
    assert str(job.plan) == "About 6 min, at most 0.12 USD; 40 examples, 2 answers"


def test_starting_a_plan_again_gives_the_same_job(client: Client, mails: Path) -> None:
    plan = client.plan("text-sorter", data=mails, budget="0.50")

    assert plan.start().id == plan.start().id
    assert len(client.jobs()) == 1


def test_plan_read_back_from_a_job_cannot_be_started(client: Client, mails: Path) -> None:
    plan = client.train("text-sorter", data=mails, budget="0.50").plan
    assert plan is not None

    with pytest.raises(gm.Conflict):
        plan.start()


def test_packed_data_are_gone_with_the_plan(
    client: Client, mails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = client.plan("text-sorter", data=mails)
    packed = list(tmp_path.glob("gristmill-*/data"))

    del plan

    assert len(packed) == 1
    assert not packed[0].exists()


def test_expired_quote_is_not_ordered(client: Client, fake: FakeCoordinator, mails: Path) -> None:
    plan = client.plan("text-sorter", data=mails, budget="0.50")
    fake.pause(600)

    with pytest.raises(gm.QuoteExpired):
        plan.start()

    assert not fake.artifacts


def test_account_must_cover_the_cap(mails: Path, tmp_path: Path) -> None:
    with FakeCoordinator(balance_usd_micros=119_999).client(tmp_path) as client, pytest.raises(gm.BalanceBelowCap):
        client.train("text-sorter", data=mails, budget="0.50")


def test_running_jobs_reserve_their_caps(client: Client, fake: FakeCoordinator, mails: Path) -> None:
    job = client.train("text-sorter", data=mails, budget="0.50")
    reserved = client.account().reserved_usd_micros

    fake.finish(job.id, files={}, scorecard={})

    assert (reserved, client.account().reserved_usd_micros) == (120_000, 0)


def test_budget_below_the_price_is_refused(client: Client, mails: Path) -> None:
    with pytest.raises(gm.BudgetBelowQuote) as refused:
        client.train("text-sorter", data=mails, budget="0.01")

    assert refused.value.details["price_usd_micros"] == 80_000


def test_data_that_the_coordinator_does_not_take_are_refused_here(mails: Path, tmp_path: Path) -> None:
    class Small(FakeCoordinator):
        def info(self) -> InfoView:
            return super().info().model_copy(update={"max_artifact_bytes": 100})

    with Small().client(tmp_path) as client, pytest.raises(gm.TooLarge, match="takes 100"):
        client.plan("text-sorter", data=mails)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"recipe": "text-sorte"}, gm.UnknownRecipe),
        ({"quality": "superb"}, gm.BadSettings),
        ({"roundz": 3}, gm.BadSettings),
        ({"data": "nowhere"}, gm.BadData),
        ({"budget": "cheap"}, gm.BadRequest),
        ({"text_column": "body"}, gm.BadData),
    ],
)
def test_mistake_is_found_before_anybody_is_asked(
    client: Client, mails: Path, options: dict[str, str], error: type[gm.GristmillError]
) -> None:
    recipe = options.pop("recipe", "text-sorter")

    with pytest.raises(error):
        client.plan(recipe, **({"data": mails} | options))  # type: ignore[arg-type]


def test_renters_see_only_their_own_jobs(fake: FakeCoordinator, client: Client, mails: Path, tmp_path: Path) -> None:
    job = client.train("text-sorter", data=mails, budget="0.50")

    with fake.client(tmp_path / "other") as stranger:
        assert stranger.jobs() == []
        with pytest.raises(gm.NotFound):
            stranger.job(job.id)


def test_module_functions_use_the_configured_client(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    with fake.installed(tmp_path):
        job = gm.train("text-sorter", data=mails, budget=0.5)

        assert gm.job(job.id).id == job.id
    # A fresh key each time nobody names one: the order belongs to another.
    with fake.installed(tmp_path):
        assert gm.jobs() == []


def test_module_functions_take_a_client(client: Client, mails: Path) -> None:
    plan = gm.plan("text-sorter", data=mails, client=client, rounds=100)
    job = plan.start()

    assert [job.id for job in gm.jobs(client=client)] == [job.id]


def test_same_key_has_its_jobs_on_another_machine(fake: FakeCoordinator, mails: Path, tmp_path: Path) -> None:
    key = Account.create()
    with fake.client(tmp_path / "one", key) as one:
        ordered = one.train("text-sorter", data=mails, budget="0.50")

    with fake.client(tmp_path / "two", key) as two:
        job = two.job(ordered.id)

        assert job.plan is None
        assert job.state is gm.JobState.QUEUED
