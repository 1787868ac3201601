"""The envelope and its signatures. Vectors: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.certified import NODE, OPERATOR, STRANGER, Certified, signed
from gristmill_protocol.certificate import (
    PAYLOAD_TYPE,
    CertificateStatement,
    Envelope,
    pae,
    require_signed,
    sign,
    signer,
)
from gristmill_protocol.errors import BadData, BadSignature

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.parametrize(
    ("kind", "payload", "encoded"),
    [
        ("http://example.com/HelloWorld", b"hello world", b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"),
        ("", b"", b"DSSEv1 0  0 "),
        ("\u00fc", b"\xff 3", b"DSSEv1 2 \xc3\xbc 3 \xff 3"),
    ],
)
def test_pae_is_that_of_the_specification(kind: str, payload: bytes, encoded: bytes) -> None:
    assert pae(kind, payload) == encoded


@given(st.text(max_size=4), st.binary(max_size=8), st.text(max_size=4), st.binary(max_size=8))
def test_no_two_contents_are_encoded_alike(kind: str, payload: bytes, kind2: str, payload2: bytes) -> None:
    assert (pae(kind, payload) == pae(kind2, payload2)) == ((kind, payload) == (kind2, payload2))


def test_an_envelope_reads_back_as_it_was_written() -> None:
    statement = Certified().statement()

    envelope = Envelope.read(signed(statement))

    require_signed(envelope, envelope.content(), statement.signers())
    assert CertificateStatement.read(envelope.content()) == statement
    assert (envelope.payload_type, envelope.content()[:2]) == (PAYLOAD_TYPE, b'{"')


@given(st.binary(max_size=50))
def test_who_signed_is_recovered_from_any_payload(payload: bytes) -> None:
    assert signer(payload, sign(OPERATOR, payload)) == OPERATOR.address


def test_the_other_signature_that_holds_is_refused() -> None:
    raw = bytes.fromhex(sign(OPERATOR, b"x")[2:])
    high = raw[:32] + (_ORDER - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big") + bytes([55 - raw[64]])

    with pytest.raises(BadSignature, match="low s"):
        signer(b"x", "0x" + high.hex())


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ((OPERATOR,), f"The signature of {NODE.address} is missing"),
        ((NODE,), f"The signature of {OPERATOR.address} is missing"),
        ((STRANGER, NODE), f"The signature of {OPERATOR.address} is missing.*signed by {STRANGER.address}"),
        ((NODE, OPERATOR), "but the statement names"),
        ((OPERATOR, NODE, STRANGER), "but the statement names"),
        ((OPERATOR, NODE, NODE), "but the statement names"),
    ],
)
def test_other_signers_than_those_named_are_refused(keys: tuple, sentence: str) -> None:
    statement = Certified().statement()
    envelope = Envelope.read(signed(statement, *keys))

    with pytest.raises(BadSignature, match=sentence):
        require_signed(envelope, statement.payload(), statement.signers())


def test_a_signature_under_another_s_name_is_refused() -> None:
    statement = Certified().statement()
    payload = statement.payload()
    forged = [(OPERATOR.address, sign(STRANGER, payload)), (NODE.address, sign(NODE, payload))]

    with pytest.raises(BadSignature, match=f"The signature of {OPERATOR.address} does not match"):
        require_signed(Envelope.of(payload, forged), payload, statement.signers())


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (b"training-certificate", b"something-else", "predicateType"),
        (b"in-toto.io/Statement/v1", b"in-toto.io/Statement/v9", "_type"),
        (b'"seed":7', b'"seed":"7"', "one way"),
        (b'"seed":7', b'"seed": 7', "one way"),
        (b'"seed":7', b'"seed":7,"seed":7', "one way"),
        (b'"seed":7', b'"seed":7,"more":1', "more"),
    ],
)
def test_a_statement_of_another_type_or_spelling_is_refused(before: bytes, after: bytes, sentence: str) -> None:
    payload = Certified().statement().payload()
    assert payload.count(before) == 1

    with pytest.raises(BadData, match=sentence):
        CertificateStatement.read(payload.replace(before, after))


@pytest.mark.parametrize(
    "file", [b"", b"{", b"[]", b"{}", b"\xff", b'{"payload":"","payloadType":"text","signatures":[]}']
)
def test_what_is_no_envelope_is_refused(file: bytes) -> None:
    with pytest.raises(BadData, match="no signed envelope"):
        Envelope.read(file)
