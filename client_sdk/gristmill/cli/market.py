"""What there is to be had: market, recipes."""

import typer

from gristmill._client import Client
from gristmill._wording import card
from gristmill.cli.screen import Json, print_json, print_table
from gristmill_protocol.wording import usd


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
            card(offer),
        )
        for offer in offers
    ]
    print_table(("provider", "device", "memory", "ask", "free", "card"), rows)


def recipes(as_json: Json = False) -> None:
    """List what the coordinator can train."""
    with Client() as client:
        found = client.recipes()
    if as_json:
        print_json([recipe.model_dump(mode="json") for recipe in found])
        return
    print_table(("recipe", "", ""), [(recipe.recipe, recipe.title, recipe.summary) for recipe in found])
