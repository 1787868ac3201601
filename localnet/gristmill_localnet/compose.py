"""Sets up the market of docker-compose.yml: contracts, keys, a certificate, the nodes' settings.

python -m gristmill_localnet.compose FOLDER RPC_URL
"""

import json
import subprocess
import sys
from pathlib import Path

from eth_account.signers.local import LocalAccount

from gristmill_contracts.deploy import Deployment
from gristmill_contracts.node import connect
from gristmill_localnet.books import Books
from gristmill_protocol.errors import GristmillError
from gristmill_protocol.keystore import create_key, load_key

# Of keys that hold test money on a chain that only this machine knows; the compose file names it, too.
PASSWORD = "development"
ASKS_USD = {"willow": "0.20", "oak": "0.24"}  # by node; two owners, so that one can check the other's work
NAMES = ("treasury", "operator", "renter", "author", *ASKS_USD)
_TEST_KEY_ROUNDS = 1000
_CERTIFICATE = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = Gristmill development
[extensions]
subjectAltName = DNS:coordinator, DNS:localhost, IP:127.0.0.1
"""


def set_up(folder: Path, rpc_url: str) -> str:
    """Make a new market unless the chain still holds the one that the folder describes; gives a sentence about it.

    Raises:
        ChainUnavailable: the EVM node does not answer.
    """
    if _is_deployed(folder / "deployment.json", rpc_url):
        return "The market is set up already."
    (folder / "password").write_text(PASSWORD + "\n")
    keys = {name: _key(folder / "keys" / f"{name}.json") for name in NAMES}
    _make_certificate(folder / "tls")
    books = Books.open(rpc_url, keys, list(ASKS_USD))
    for node in ASKS_USD:
        _write_node_settings(folder, node, books, rpc_url)
    # The others wait for this file, so it comes last and at once.
    books.deployment.save(folder / "deployment.new")
    (folder / "deployment.new").rename(folder / "deployment.json")
    return f"The market is set up; the renter is {books.addresses['renter']}."


def main() -> None:
    folder, rpc_url = Path(sys.argv[1]), sys.argv[2]
    try:
        sys.stdout.write(set_up(folder, rpc_url) + "\n")
    except GristmillError as err:
        sys.exit(f"error: {err}")


def _is_deployed(path: Path, rpc_url: str) -> bool:
    w3 = connect(rpc_url)
    if not path.exists():
        return False
    return bool(w3.eth.get_code(w3.to_checksum_address(Deployment.load(path).ledger)))


def _key(path: Path) -> LocalAccount:
    return load_key(path, PASSWORD) if path.exists() else create_key(path, PASSWORD, rounds=_TEST_KEY_ROUNDS)


def _make_certificate(folder: Path) -> None:
    """A certificate that is its own authority, for the names under which the coordinator is reached."""
    folder.mkdir(exist_ok=True)
    if (folder / "certificate.pem").exists():
        return
    settings = folder / "openssl.cnf"
    settings.write_text(_CERTIFICATE)
    command = "openssl req -x509 -nodes -days 3650 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    outputs = ("-config", settings, "-keyout", folder / "key.pem", "-out", folder / "certificate.pem")
    subprocess.run([*command.split(), *outputs], check=True, capture_output=True)


def _write_node_settings(folder: Path, node: str, books: Books, rpc_url: str) -> None:
    settings = {
        "name": node,
        "coordinator": "coordinator:8081",
        "coordinator_url": "https://coordinator:8080",
        "ca_file": "tls/certificate.pem",
        "keystore": f"keys/{node}.json",
        "password_file": "password",
        "provider_id": books.provider_ids[node],
        "ask_usd_per_gpu_hour": ASKS_USD[node],
        "backend": "process",
        "own_renters": [books.addresses["renter"]],
        "cpu": True,
        "rpc_url": rpc_url,
        "disputes": books.deployment.disputes,
        "state_dir": node,
    }
    # TOML and JSON agree on strings, integers, booleans and lists.
    (folder / f"{node}.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))


if __name__ == "__main__":
    main()
