"""Foundry's EVM node for development: where it is and how to start and steer it. Starting it is the caller's part."""

import platform
import re
import shutil
from pathlib import Path

from web3 import Web3
from web3.types import RPCEndpoint

from gristmill_protocol.errors import ChainUnavailable, MissingPart

CHAIN_ID = 31_337
_NODE_MODULES = Path(__file__).parents[1] / "node_modules" / "@foundry-rs"
_LISTENING = re.compile(r"Listening on ([\d.]+):(\d+)")


def find_anvil() -> Path:
    """The anvil program itself, not npm's launcher: so its process id is its own.

    Raises:
        MissingPart: neither this repository nor the PATH has one.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    installed = _NODE_MODULES / f"anvil-{system}-{arch}" / "bin" / "anvil"
    if installed.exists():
        return installed
    on_path = shutil.which("anvil")
    if on_path is None:
        raise MissingPart(
            "The EVM node, anvil, is not installed.",
            effect="No local chain can be started.",
            todo="Run `make contracts`, or install Foundry 1.7 or newer.",
        )
    return Path(on_path)


def anvil_command(
    *, port: int = 0, block_time_s: int | None = None, state: Path | None = None, host: str = "127.0.0.1"
) -> list[str]:
    """The command line of a fresh local chain, without any funded account, that makes a block for each transaction.

    Args:
        port: 0 for a free one; anvil prints it (listening_at).
        block_time_s: make a block every so often as well, so that time and beacons go on while nobody sends.
        state: a file to resume the chain from, and to save it to when anvil ends.
    Raises:
        MissingPart: as find_anvil().
    """
    line = [str(find_anvil()), "--host", host, "--port", str(port), "--chain-id", str(CHAIN_ID), "--accounts", "0"]
    if block_time_s is not None:
        line += ["--block-time", str(block_time_s), "--mixed-mining"]
    if state is not None:
        line += ["--state", str(state)]
    return line


def listening_at(output_line: str) -> str | None:
    """The RPC address, if this line of anvil's output tells it."""
    match = _LISTENING.search(output_line)
    return f"http://{match[1]}:{match[2]}" if match else None


def give_gas(w3: Web3, address: str, ether: int = 1_000) -> None:
    """Set what an address has to pay for gas."""
    _steer(w3, "anvil_setBalance", Web3.to_checksum_address(address), hex(Web3.to_wei(ether, "ether")))


def mine(w3: Web3, blocks: int = 1) -> None:
    """Make blocks now."""
    _steer(w3, "anvil_mine", hex(blocks))


def set_automine(w3: Web3, on: bool) -> None:
    """Whether each transaction gets a block at once."""
    _steer(w3, "evm_setAutomine", on)


def limit_gas(w3: Web3, gas: int) -> None:
    """Let blocks have so much gas from now on, and make one."""
    _steer(w3, "evm_setBlockGasLimit", hex(gas))
    mine(w3)


def reorganise(w3: Web3, depth: int) -> None:
    """Replace the newest blocks by as many empty ones; what was in them is forgotten."""
    _steer(w3, "anvil_reorg", depth, [])


def drop(w3: Web3, tx_hash: str) -> None:
    """Have the node forget a transaction that waits for a block."""
    _steer(w3, "anvil_dropTransaction", tx_hash)


def pass_time(w3: Web3, seconds: int) -> None:
    """Let the chain's clock jump, and make a block."""
    _steer(w3, "evm_increaseTime", seconds)
    mine(w3)


def _steer(w3: Web3, method: str, *params: object) -> None:
    answer = w3.provider.make_request(RPCEndpoint(method), list(params))
    if "error" in answer:
        raise ChainUnavailable(f"anvil refused {method}: {answer['error']}.")
