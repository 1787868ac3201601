"""What callers of the books may try (tests/contracts/test_model.py): mostly sensible, now and then anything."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from fakes.books import MOST
from fakes.books_signers import SPOILT_COMPACT, Signer

ADMIN, *SIGNERS = map(Signer, range(10))
PEOPLE, KEYS = SIGNERS[:5], SIGNERS[5:]
POOR = PEOPLE[4].address
ADDRESSES = [signer.address for signer in (ADMIN, *SIGNERS)]
BY_ADDRESS = {signer.address: signer for signer in (ADMIN, *SIGNERS)}
NONCES = (0, 1, 2, 3, 63, 64, 65, 127, 128, 6400, 2**32 - 65, 2**32 - 1)
UNKNOWN = 2**32 - 1
UNLIMITED = 2**256 - 1


@dataclass(frozen=True)
class Draft:
    """A statement yet to be written: amounts may depend on the balance, times on the clock."""

    key: int
    nonce: int
    seconds_left: int
    lines: list[tuple[int, int, int, int | str]]
    spoilt: str


@dataclass(frozen=True)
class Terms:
    """A reservation yet to be written, around the statement that it is for."""

    signer: str
    provider: int | None  # None: of the statement's first line
    spare: int  # cap above the total
    missing: int  # accepted above what is given
    seconds_to_wait: int
    spoilt: str


def mostly(usual: object, *others: object, times: int = 6) -> st.SearchStrategy:
    return st.sampled_from([usual] * times + list(others))


ids = st.integers(0, 7) | st.just(UNKNOWN)
coordinators = mostly(1, 2, 3, 4, 0, times=4)
people = st.sampled_from(PEOPLE).map(lambda signer: signer.address)
anybody = st.sampled_from(ADDRESSES)
keys = st.sampled_from(KEYS).map(lambda signer: signer.address)
sums = st.integers(0, 2_000_000) | st.sampled_from([0, 1, 99, 10_000, 10**6, MOST, "all", "over"])

sound_lines = st.tuples(ids, ids, st.sampled_from([1, 2]), st.integers(1, 20_000) | st.just("third"))
sound_drafts = st.builds(
    Draft,
    key=st.integers(0, 2),
    nonce=st.sampled_from(NONCES),
    seconds_left=st.sampled_from([0, 3600]),
    lines=st.lists(sound_lines, min_size=1, max_size=3),
    spoilt=st.just(""),
)
doubtful_lines = st.tuples(ids, ids, mostly(1, 2, 3, 0, UNKNOWN), sums)
doubtful_drafts = st.builds(
    Draft,
    key=st.integers(0, len(KEYS) - 1),
    nonce=st.sampled_from(NONCES),
    seconds_left=mostly(3600, 0, 1, -1, -(10**10), 10**13),
    lines=st.lists(doubtful_lines, max_size=3),
    spoilt=mostly("", *SPOILT_COMPACT),
)
drafts = sound_drafts | doubtful_drafts

# Sound but for one thing.
SOUND = Terms("operator", provider=None, spare=0, missing=0, seconds_to_wait=0, spoilt="")
DOUBTS: dict[str, tuple[object, ...]] = {
    "signer": ("former", "outsider"),
    "provider": (1, UNKNOWN),
    "spare": (-1, 1, MOST),
    "missing": (-MOST, -1, 1),
    "seconds_to_wait": (-(10**10), -1, 1, 10**13),
    "spoilt": SPOILT_COMPACT,
}
sound_terms = st.sampled_from([SOUND, replace(SOUND, signer="former")])
doubtful_terms = st.sampled_from([replace(SOUND, **{name: value}) for name, all_ in DOUBTS.items() for value in all_])
terms = sound_terms | doubtful_terms
