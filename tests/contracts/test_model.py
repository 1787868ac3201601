"""The Ledger's bytecode and a plain Python model of it (fakes/books.py) agree, whatever is called in whatever order.

Both get the same calls (fakes/books_machine.py). After each, what it returned or refused with, what it announced, and
every storage slot of the Ledger and of its token must be what the model says. Stories make each thing happen that can;
random calls, hostile ones included, mix them. With MODEL_EXAMPLES=5000 in the environment there are more of these and
others each time; ten take about a second.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fakes.books import MOST, TREASURY, Skip
from fakes.books_drafts import ADMIN, KEYS, PEOPLE, POOR, SOUND, UNKNOWN, Draft
from fakes.books_evm import LEDGER_FUNCTIONS, error_names, functions
from fakes.books_machine import BooksMachine

NORMAL_EXAMPLES, STEPS = 300, 60
EXAMPLES = max(NORMAL_EXAMPLES, int(os.environ.get("MODEL_EXAMPLES", "0")))
LEAST_OPERATIONS = 10_000

# Errors of the Ledger's ABI that nothing here can raise: they take a token that cheats or re-enters, an authority that
# wants delays, or a name too long for its slot.
OUT_OF_REACH = {
    "TransferFellShort",
    "SafeERC20FailedOperation",
    "ReentrancyGuardReentrantCall",
    "AccessManagedInvalidAuthority",
    "AccessManagedRequiredDelay",
    "InvalidShortString",
    "StringTooLong",
}

SOMEBODY, RICH = PEOPLE[2].address, PEOPLE[0].address
FIRST, UNOPENED = KEYS[0].address, KEYS[3]
BAD_SIGNATURES = {"no r": "ECDSAInvalidSignature", "large s": "ECDSAInvalidSignatureS"}


# What happens, function by function: after each call, what it came to.


def _open(on: BooksMachine) -> Iterator[str]:
    on.open(UNOPENED, 0, 1, None)
    yield "ZeroAddress"
    on.open(UNOPENED, SOMEBODY, 9, None)
    yield "UnknownCoordinator"
    on.open(KEYS[0], SOMEBODY, 1, None)
    yield "AlreadyOpen"
    on.open(UNOPENED, SOMEBODY, 1, PEOPLE[0])
    yield "NotSignedBy"
    for spoilt, error in BAD_SIGNATURES.items() | {("short", "ECDSAInvalidSignatureLength")}:
        on.open_badly(UNOPENED, spoilt)
        yield error
    on.set_paused(True, ADMIN.address)
    on.open(UNOPENED, SOMEBODY, 1, None)
    yield "Paused"
    on.set_paused(False, ADMIN.address)
    on.open(UNOPENED, SOMEBODY, 1, None)
    yield "ok"


def _deposit(on: BooksMachine) -> Iterator[str]:
    on.deposit(RICH, UNOPENED.address, 1)
    yield "NotOpen"
    on.deposit(POOR, FIRST, 10**6 + 1)
    yield "ERC20InsufficientAllowance"
    on.deposit(POOR, FIRST, 501)
    yield "ERC20InsufficientBalance"
    on.deposit(RICH, FIRST, "over")
    yield "TokenTooLarge"
    on.deposit(RICH, FIRST, "all")
    yield "ok"
    on.set_paused(True, ADMIN.address)
    on.deposit(RICH, FIRST, 0)
    yield "Paused"


def _award(on: BooksMachine) -> Iterator[str]:
    on.award(RICH, [(FIRST, 0, 1), (UNOPENED.address, 0, 1)])
    yield "NotOpen"
    on.award(RICH, [(0, 3, 1), (0, 4, 1)])
    yield "UnknownPayee"
    on.award(POOR, [(FIRST, 0, 10**6), (0, 1, 1)])
    yield "ERC20InsufficientAllowance"
    on.award(POOR, [(FIRST, 0, 500), (0, 1, 1)])
    yield "ERC20InsufficientBalance"
    on.award(RICH, [(FIRST, 0, MOST)])
    yield "TokenTooLarge"
    on.award(RICH, [(FIRST, 0, 5), (0, 1, 6), (0, TREASURY, 7)])
    yield "ok"


def _request_withdrawal(on: BooksMachine) -> Iterator[str]:
    on.request_withdrawal(FIRST, 5, RICH)
    yield "NotOwner"
    on.request_withdrawal(FIRST, 5, None)
    yield "ok"


def _request_withdrawal_signed(on: BooksMachine) -> Iterator[str]:
    on.request_signed(FIRST, 5, 0, PEOPLE[0], "")
    yield "NotSignedBy"
    on.request_signed(FIRST, 5, 0, None, "")
    yield "ok"


def _withdraw(on: BooksMachine) -> Iterator[str]:
    on.withdraw(FIRST, False)
    yield "NothingPending"
    on.request_withdrawal(FIRST, 5, None)
    on.withdraw(FIRST, False)
    yield "StillLocked"
    on.withdraw(FIRST, True)
    yield "ok"
    on.withdraw_in_time(FIRST, "over")
    yield "paid what was left"


def _add_payee(on: BooksMachine) -> Iterator[str]:
    on.add_payee(0)
    yield "ZeroAddress"
    on.add_payee(SOMEBODY)
    yield "ok"


def _set_payout(on: BooksMachine) -> Iterator[str]:
    on.set_payout(1, SOMEBODY, ADMIN.address)
    yield "NotPayout"
    on.set_payout(1, 0, None)
    yield "ZeroAddress"
    on.set_payout(1, SOMEBODY, None)
    yield "ok"


def _collect(on: BooksMachine) -> Iterator[str]:
    on.collect(1)
    yield "ok"
    on.settle_one(_paying(1, 20_000))
    on.collect(TREASURY)
    yield "paid the fees"


def _add_recipe(on: BooksMachine) -> Iterator[str]:
    on.add_recipe(4, 500, 2000)
    yield "UnknownPayee"
    on.add_recipe(1, 501, 2000)
    yield "RateTooHigh"
    on.add_recipe(1, 500, 2001)
    yield "RateTooHigh"
    on.add_recipe(1, 500, 2000)
    yield "ok"


def _add_coordinator(on: BooksMachine) -> Iterator[str]:
    on.add_coordinator(SOMEBODY)
    yield "ok"


def _set_operator(on: BooksMachine) -> Iterator[str]:
    on.set_operator(1, SOMEBODY, ADMIN.address)
    yield "NotOperator"
    on.set_operator(1, 0, None)
    yield "ZeroAddress"
    on.set_operator(1, SOMEBODY, None)
    yield "ok"


def _settle(on: BooksMachine) -> Iterator[str]:
    on.settle([_paying(1, 10)], PEOPLE[1])
    yield "NotOperator"
    on.settle_damaged([_paying(1, 10)], "cut", 10, b"", 1)
    yield "TruncatedStatement"
    for why, draft in _refused(on).items():
        on.settle([_paying(3, 10), draft], None)
        yield f"skipped {why.name}"
    on.settle([_paying(5, 10, key=3)], None)
    yield f"skipped {Skip.NO_ACCOUNT.name}"
    on.settle([_paying(4, 10), _paying(6400, 10)], None)
    yield "ok"
    on.settle_one(_paying(5, 10))
    yield "paid by a late nonce"
    on.settle_one(_paying(6, 10, provider=UNKNOWN))
    yield "paid an unknown payee"
    on.fill(KEYS[0])
    on.settle_one(_paying(7, "half"))
    yield "paid more than 2^90"


def _settle_reserved(on: BooksMachine) -> Iterator[str]:
    on.settle_reserved_cut(_paying(1, 10), SOUND, 1)
    yield "TruncatedStatement"
    on.settle_reserved(_paying(1, 10), SOUND, b"\0")
    yield "MoreThanOneStatement"
    for spoilt, error in BAD_SIGNATURES.items():
        on.settle_reserved_doubtfully(_paying(1, 10), replace(SOUND, spoilt=spoilt))
        yield error
    on.settle_reserved_doubtfully(_paying(1, 10), replace(SOUND, signer="outsider"))
    yield "NotSignedBy"
    on.settle_reserved_doubtfully(_paying(1, 10), replace(SOUND, seconds_to_wait=1))
    yield "TooEarly"
    on.settle_reserved_doubtfully(_paying(1, 10), replace(SOUND, spare=-1))
    yield "CapExceeded"
    on.settle_reserved_doubtfully(_paying(1, 10), replace(SOUND, missing=1))
    yield "LessThanAccepted"
    # NO_ACCOUNT can't be: the reservation names the account's own coordinator.
    for why, draft in _refused(on).items():
        on.settle_reserved(draft, SOUND, b"")
        yield f"StatementRejected {why.name}"
    on.settle_reserved(_paying(6400, 10), SOUND, b"")
    yield "ok"
    on.settle_reserved(_paying(4, 10), SOUND, b"")
    yield "paid by a late nonce"
    on.settle_reserved(_paying(5, 10, provider=UNKNOWN), SOUND, b"")
    yield "paid an unknown payee"
    on.settle_reserved_after_a_rotation(_paying(6, 10), SOUND, SOMEBODY)
    yield "ok by a former operator"
    on.fill(KEYS[0])
    on.settle_reserved(_paying(7, "half"), SOUND, b"")
    yield "paid more than 2^90"


def _require_reserved(on: BooksMachine) -> Iterator[str]:
    for spoilt, error in BAD_SIGNATURES.items():
        on.require_reserved(_paying(1, 10), replace(SOUND, spoilt=spoilt))
        yield error
    on.require_reserved(_paying(1, 10), replace(SOUND, signer="outsider"))
    yield "NotSignedBy"
    on.require_reserved(_paying(1, 10), SOUND)
    yield "ok"


def _set_paused(on: BooksMachine) -> Iterator[str]:
    on.set_paused(True, RICH)
    yield "AccessManagedUnauthorized"
    on.set_paused(True, ADMIN.address)
    yield "ok"


STORIES: dict[str, Callable[[BooksMachine], Iterator[str]]] = {
    "open": _open,
    "deposit": _deposit,
    "award": _award,
    "request_withdrawal": _request_withdrawal,
    "request_withdrawal_signed": _request_withdrawal_signed,
    "withdraw": _withdraw,
    "add_payee": _add_payee,
    "set_payout": _set_payout,
    "collect": _collect,
    "add_recipe": _add_recipe,
    "add_coordinator": _add_coordinator,
    "set_operator": _set_operator,
    "settle": _settle,
    "settle_reserved": _settle_reserved,
    "require_reserved": _require_reserved,
    "set_paused": _set_paused,
}


def _paying(
    nonce: int, amount: int | str, *, key: int = 0, provider: int = 1, recipe: int = 1, left_s: int = 60
) -> Draft:
    return Draft(key, nonce, left_s, [(provider, 2, recipe, amount)], "")


def _refused(on: BooksMachine) -> dict[Skip, Draft]:
    """A statement for each reason not to pay it; nonce 2 is used from here on."""
    on.settle_one(_paying(2, 10))
    return {
        Skip.EXPIRED: _paying(1, 10, left_s=-1),
        Skip.NONCE_USED: _paying(2, 10),
        Skip.UNKNOWN_RECIPE: _paying(1, 10, recipe=3),
        Skip.EMPTY: _paying(1, 0),
        Skip.UNFUNDED: _paying(1, "over"),
    }


def _play(function: str) -> set[str]:
    """What a function's story came to, on a fresh Ledger.

    Raises:
        AssertionError: they differ, or a call came to something else than the story says.
    """
    machine = BooksMachine()
    machine.set_up()
    seen = machine.side.seen.copy()
    told = set()
    for outcome in STORIES[function](machine):
        assert machine.side.seen[function, outcome] > seen[function, outcome], outcome
        seen = machine.side.seen.copy()
        told.add(outcome)
    return told


def test_all_that_can_happen_happens_and_they_agree() -> None:
    occurred = {(function, outcome) for function in STORIES for outcome in _play(function)}

    refused = {outcome.split()[0] for _, outcome in occurred}
    assert set(error_names("Ledger").values()) - refused == OUT_OF_REACH
    reasons = {skip.name for skip in Skip if skip}
    assert {outcome.removeprefix("skipped ") for function, outcome in occurred if function == "settle"} >= reasons


def test_every_function_that_changes_the_ledger_is_called() -> None:
    changing = {signature for signature, changes in functions("Ledger").items() if changes}

    assert changing - {"setAuthority(address)"} == set(LEDGER_FUNCTIONS.values())
    assert set(STORIES) == LEDGER_FUNCTIONS.keys() | {"require_reserved"}


@pytest.mark.slow
@pytest.mark.timeout(400 + EXAMPLES)  # a failure takes minutes to be made small
def test_the_model_and_the_bytecode_agree_over_random_calls() -> None:
    BooksMachine.all_seen.clear()

    run_state_machine_as_test(
        BooksMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize="MODEL_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )

    seen = BooksMachine.all_seen
    assert sum(seen[function, "called"] for function in LEDGER_FUNCTIONS) >= LEAST_OPERATIONS
    assert {function for function in STORIES if not seen[function, "ok"]} == set()
