"""Test money, where a chain has it for the asking."""

import asyncio
from typing import Protocol

from eth_account import Account

from gristmill_contracts.anvil import give_gas
from gristmill_contracts.node import Sender, connect
from gristmill_contracts.test_usd import TestUSD


class Faucet(Protocol):
    async def give(self, to: str, usd_micros: int) -> None:
        """Make money at an address.

        Raises:
            ChainUnavailable: the node does not answer.
        """


class DevFaucet:
    """Implements Faucet on a development chain, where anybody can make money and take what it costs to do so."""

    def __init__(self, rpc_url: str, token: str) -> None:
        self._rpc_url = rpc_url
        self._token = token

    async def give(self, to: str, usd_micros: int) -> None:
        await asyncio.to_thread(self._give, to, usd_micros)

    def _give(self, to: str, usd_micros: int) -> None:
        w3, minter = connect(self._rpc_url), Account.create()
        give_gas(w3, minter.address)
        Sender(w3, minter).run(TestUSD(w3, self._token).mint(to, usd_micros))
