import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from gristmill_protocol.errors import BadRequest, BadSignature
from gristmill_protocol.incidents import MAX_INCIDENTS, Incident, read_incidents, sign_incidents

KEY = Account.from_key("0x" + "0d" * 32)
incidents = st.builds(
    Incident, kind=st.sampled_from(["xid", "reboot"]), at_s=st.integers(0, 2**40), text=st.text(max_size=300)
)


@given(told=st.lists(incidents, max_size=3))
def test_what_a_node_signs_is_what_is_read(told: list[Incident]) -> None:
    said, signature = sign_incidents(KEY, "attempt_1", told)

    assert read_incidents("attempt_1", said, signature, key=KEY.address) == tuple(told)


def test_incidents_of_another_attempt_or_key_or_text_are_refused() -> None:
    said, signature = sign_incidents(KEY, "attempt_1", [Incident(kind="ecc", at_s=1, text="Memory was wrong.")])

    for attempt_id, text in (("attempt_2", said), ("attempt_1", said.replace("wrong", "right"))):
        with pytest.raises(BadSignature):
            read_incidents(attempt_id, text, signature, key=KEY.address)
    with pytest.raises(BadSignature):
        read_incidents("attempt_1", said, signature, key="0x" + "00" * 20)


def test_an_endless_list_is_refused() -> None:
    one = Incident(kind="ecc", at_s=1, text="Memory was wrong.")
    said, signature = sign_incidents(KEY, "attempt_1", [one] * (MAX_INCIDENTS + 1))

    with pytest.raises(BadRequest, match="cannot be read"):
        read_incidents("attempt_1", said, signature, key=KEY.address)
