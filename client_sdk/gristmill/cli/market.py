"""What there is to be had: market, recipes."""

from datetime import UTC, datetime

import typer

from gristmill._client import Client
from gristmill._wording import usd
from gristmill.cli.screen import Json, print_json, print_table
from gristmill_protocol.api import OfferView


def add_to(app: typer.Typer) -> None:
    for command in (market, recipes):
        app.command(command.__name__)(command)


def market(as_json: Json = False) -> None:
    """List the machines on offer, cheapest hour first."""
    with Client() as client:
        offers = client.market()
    if as_json:
        print_json([offer.model_dump(mode="json") for offer in offers])
        return
    rows = [
        (
            offer.provider_name,
            offer.device,
            f"{offer.memory_bytes / 2**30:.0f} GiB",
            f"{usd(offer.ask_usd_micros_per_gpu_hour)}/h",
            f"{offer.slots_free} of {offer.slots}",
            _tested(offer),
        )
        for offer in offers
    ]
    print_table(("provider", "device", "memory", "ask", "free", "card"), rows)


def _tested(offer: OfferView) -> str:
    """What is known of the offer's card."""
    if offer.standing not in ("proven", "provisional"):
        return f"{offer.standing}: {offer.standing_text}"
    since = (
        f" since {datetime.fromtimestamp(offer.proven_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC" if offer.proven_ms else ""
    )
    return f"{offer.standing}{since}"


def recipes(as_json: Json = False) -> None:
    """List what the coordinator can train."""
    with Client() as client:
        found = client.recipes()
    if as_json:
        print_json([recipe.model_dump(mode="json") for recipe in found])
        return
    print_table(("recipe", "", ""), [(recipe.recipe, recipe.title, recipe.summary) for recipe in found])
