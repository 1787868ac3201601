"""From nothing to a node that is registered: what `gristmill-node up` does where there is no node.toml yet.

Each step is kept in a draft beside the file to be, so that the next call goes on where the last one ended.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address

from gristmill_protocol.api import InfoView, NodeTerms
from gristmill_protocol.errors import BadRequest, BadSettings, MissingPart
from gristmill_protocol.money import format_usd, parse_usd
from gristmill_provider.config import NodeConfig, check_config, write_config
from gristmill_provider.devices import Device, find_gpu
from gristmill_provider.exit_codes import ExitCode, NodeEnded, ends_as
from gristmill_provider.fleet import build
from gristmill_provider.introduction import Front, common_image
from gristmill_provider.keys import new_key, open_key
from gristmill_provider.pricing import Machine, Suggestion, suggest, watts_at_work
from gristmill_provider.questions import Questions
from gristmill_provider.rules import Price, electricity_usd_micros_per_hour

_ELECTRICITY_USD = "0.30"


class Onboarding:
    """One machine on its way to a node.toml.

    Args:
        config: where that file is to be.
        given: settings that the owner named; those that are None are asked for or found out.
        payout: address to be paid at; "": the node's own key.
    """

    def __init__(self, config: Path, given: Mapping[str, Any], *, payout: str, questions: Questions) -> None:
        self._config = config
        self._draft = _Draft(config.with_suffix(".draft.json"))
        self._draft.take({"payout": payout or None, **given})
        self._ask = questions

    def run(self) -> None:
        """Ask, look, measure, register, and write the file.

        Raises:
            NodeEnded: with the exit code that says what is in the way.
        """
        front, info, terms = self._meet()
        self._choose_sandbox(terms)
        device = self._find_device()
        key = self._open_key()
        values = self._draft.values
        if "name" not in values:
            values["name"] = self._ask.ask("Name that people see", flag="--name", default=socket.gethostname()[:80])
        self._choose_price(front, device)
        self._draft.save()
        self._join(info, key)
        self._write()

    def _meet(self) -> tuple[Front, InfoView, NodeTerms]:
        values = self._draft.values
        if "coordinator_url" not in values:
            values["coordinator_url"] = self._ask.ask("Address of the coordinator", flag="--coordinator-url")
        ca_file = values.get("ca_file")
        front = Front(values["coordinator_url"], Path(ca_file) if ca_file else None)
        with ends_as(ExitCode.COORDINATOR):
            info = front.greet().info
        if info.nodes is None:
            unasked = BadRequest(
                f"The coordinator at {values['coordinator_url']} does not say what a node needs.",
                effect="Nothing was set up.",
                todo="Ask its operator to update it, or write node.toml by hand: docs/providers.md shows one.",
            )
            raise NodeEnded(ExitCode.COORDINATOR, unasked)
        values.setdefault("coordinator", info.nodes.grpc_address)
        values.setdefault("disputes", info.nodes.disputes)
        if info.nodes.rpc_url:
            values.setdefault("rpc_url", info.nodes.rpc_url)
        _say(f"Coordinator    {info.url}, version {info.version}, settles on chain {info.chain_id}")
        return front, info, info.nodes

    def _choose_sandbox(self, terms: NodeTerms) -> None:
        values = self._draft.values
        if values.get("own_renters"):
            values["backend"] = "process"
            _say("Sandbox        none: only your own renters' jobs run, as plain processes")
            return
        image = values.get("image") or common_image(terms)
        if not image:
            missing = BadSettings(
                "The coordinator names no image for jobs, so none can run in a sandbox.",
                effect="Nothing was set up.",
                todo="Run your own jobs without one: add --own-renter ADDRESS, your renter key's address.",
            )
            raise NodeEnded(ExitCode.USAGE, missing)
        values |= {"backend": "docker", "image": image}
        _say(f"Sandbox        Docker, running the image {image} and no other")

    def _find_device(self) -> Device | None:
        """The card to offer; None: the CPU."""
        values = self._draft.values
        if values.get("cpu"):
            _say("Device         the CPU, as you wish")
            return None
        try:
            card = find_gpu(values.get("gpu", ""))
        except MissingPart as err:
            unusable = MissingPart(
                err.what, effect="This machine offers nothing.", todo=f"{err.todo} The flag for that is --cpu."
            )
            raise NodeEnded(ExitCode.DEVICE, unusable) from err
        values["gpu"] = card.uuid
        _say(f"Device         {card.name}, {card.memory_bytes / 2**30:.0f} GiB, driver {card.driver}")
        return card

    def _open_key(self) -> LocalAccount:
        values, folder = self._draft.values, self._config.parent
        values.setdefault("keystore", "node-key.json")
        values.setdefault("password_file", "node-password")
        values.setdefault("state_dir", "state")
        keystore, password_file = folder / values["keystore"], folder / values["password_file"]
        if keystore.exists():
            with ends_as(ExitCode.KEY):
                key = open_key(keystore, password_file)
        else:
            try:
                key = new_key(keystore, password_file)
            except OSError as err:
                unwritten = BadRequest(
                    f"No key can be written: {err}.", effect="Nothing was set up.", todo="Name a folder with --config."
                )
                raise NodeEnded(ExitCode.KEY, unwritten) from err
        self._draft.save()
        _say(f"Key            {key.address}, in {keystore}: keep a copy of it and of {password_file.name}")
        return key

    def _choose_price(self, front: Front, device: Device | None) -> None:
        values = self._draft.values
        if "electricity_usd_per_kwh" not in values:
            answer = self._ask.ask("Price of electricity, USD a kWh", flag="--electricity", default=_ELECTRICITY_USD)
            values["electricity_usd_per_kwh"] = answer
        with ends_as(ExitCode.USAGE):
            electricity = parse_usd(values["electricity_usd_per_kwh"])
        _say("Measuring this machine, which takes up to a minute …")
        provisional = self._checked(provider_id=1, ask_usd_per_gpu_hour="0")
        probed = asyncio.run(build(provisional).nodes[0].measure())
        machine = Machine(device.name if device else "CPU", device is None, probed.flops_per_s)
        with ends_as(ExitCode.COORDINATOR):
            market = front.market()
        suggestion = suggest(
            market, machine, electricity_usd_micros_per_hour(Price(0, electricity), watts_at_work(device))
        )
        _say(f"Speed          {probed.flops_per_s / 1e12:.3g} TFLOP/s, measured just now")
        self._choose_ask(suggestion, watts=watts_at_work(device))

    def _choose_ask(self, suggestion: Suggestion, *, watts: int) -> None:
        values, floor = self._draft.values, format_usd(suggestion.floor_usd_micros)
        _say(f"Electricity    {floor} USD an hour at {watts} W")
        if "ask_usd_per_gpu_hour" not in values:
            suggested = format_usd(suggestion.ask_usd_micros)
            _say(f"Price          {suggested} USD an hour is suggested. {suggestion.why}")
            values["ask_usd_per_gpu_hour"] = self._ask.ask("Your price, USD an hour", flag="--ask", default=suggested)
        with ends_as(ExitCode.USAGE):
            ask = parse_usd(values["ask_usd_per_gpu_hour"])
        if ask < suggestion.floor_usd_micros:
            _say("               You would pay for working; a graphics card takes no work at such a price.")

    def _join(self, info: InfoView, key: LocalAccount) -> None:
        values, payout = self._draft.values, self._draft.values.get("payout", "")
        if payout and not is_address(payout):
            raise NodeEnded(ExitCode.USAGE, BadRequest(f"{payout!r} is no address.", todo="Correct --payout."))
        if "rpc_url" not in values:
            values["rpc_url"] = self._ask.ask(f"HTTP address of a node of chain {info.chain_id}", flag="--rpc")
        # web3 is large: a node that only works does not load it.
        from gristmill_provider.joining import Enrolment

        with ends_as(ExitCode.CHAIN):
            joining = Enrolment.begin(values["rpc_url"], key, info, values.get("provider_id"))
            bond = format_usd(joining.bond_usd_micros)
            _say(
                f"Bond           {bond} USD, which you get back when you leave, unless this node is caught cheating\n"
                f"               in the contract {info.registry}, as the coordinator names it"
            )
            self._ask.confirm(f"Register, and bond {bond} USD?")
            with ends_as(ExitCode.UNFUNDED):
                joining.await_money(_say, wait=self._ask.somebody_there)
            if values.get("provider_id") is None:
                values["provider_id"] = joining.add()
                self._draft.save()
            joining = Enrolment(joining.sender, info, values["provider_id"])
            joining.finish(payout)
        _say(f"Registered     as provider {values['provider_id']}, paid at {payout or key.address}")

    def _write(self) -> None:
        with ends_as(ExitCode.USAGE):
            config = write_config(self._settings, self._config)
        self._draft.forget()
        _say(f"Written        {self._config}; its state is in {config.state_dir}")
        _say(f"Look at it     gristmill-node top --config {self._config}")
        _say(f"Keep it up     gristmill-node service install --config {self._config}\n")

    def _checked(self, **changes: object) -> NodeConfig:
        with ends_as(ExitCode.USAGE):
            return check_config({**self._settings, **changes}, self._config)

    @property
    def _settings(self) -> dict[str, Any]:
        """What of the draft belongs into the file."""
        return {name: self._draft.values[name] for name in NodeConfig.model_fields if name in self._draft.values}


class _Draft:
    """What is known so far, in a file for its owner's eyes only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.values: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def take(self, given: Mapping[str, Any]) -> None:
        self.values |= {name: value for name, value in given.items() if value is not None}

    def save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(self.values, indent=1))
        fresh.replace(self._file)

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


def _say(line: str) -> None:
    typer.echo(line, err=True)
