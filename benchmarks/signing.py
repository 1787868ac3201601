"""How long a renter waits for a ladder of 64 rungs: with coincurve, and with eth-keys' pure Python as the baseline."""

import os
import subprocess
import sys
import time

from eth_account import Account

from gristmill_protocol.jobs import Statement, StatementLine
from gristmill_protocol.signing import STATEMENT_TYPE, Domain, sign, statement_message

RUNGS = 64
LINE = StatementLine(provider=1, verifier=2, recipe=3, amount_usd_micros=4)
LEDGER = Domain.ledger(31337, "0x" + "11" * 20)


def ladder_ms() -> float:
    """Milliseconds for one ladder; the best of three."""
    account = Account.from_key(b"\x01" * 32)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        for nonce in range(RUNGS):
            statement = Statement(nonce=nonce, deadline_s=9, lines=(LINE,))
            sign(account, LEDGER, STATEMENT_TYPE, statement_message(statement))
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def with_backend(name: str) -> float:
    """ladder_ms() in a process whose eth-keys uses this backend, which it reads once from the environment."""
    env = os.environ | {"ECC_BACKEND_CLASS": f"eth_keys.backends.{name}"}
    return float(subprocess.run([sys.executable, __file__, "one"], env=env, capture_output=True, check=True).stdout)


if __name__ == "__main__":
    if sys.argv[1:] == ["one"]:
        print(ladder_ms())
    else:
        pure, coincurve = with_backend("NativeECCBackend"), with_backend("CoinCurveECCBackend")
        print(
            f"ladder of {RUNGS}: pure Python {pure:.0f} ms, coincurve {coincurve:.0f} ms, ratio {pure / coincurve:.1f}"
        )
