"""The certificate of the encrypted doors: which files serve, and what is said of the others."""

import contextlib
import logging
import time

import pytest
from OpenSSL import SSL

from resolver.doors.certificate import MAX_FILE, Certificate, CertificateError, Encryption
from tests.resolver.doors.certificates import make_certificate


def refusal(certificate, key) -> str:
    with pytest.raises(CertificateError) as caught:
        Certificate(certificate, key)
    said = str(caught.value)
    assert "\n" not in said
    assert "BEGIN" not in said
    return said


def served(certificate: Certificate) -> str:
    """The name in the certificate that a client is shown, in memory."""
    server = Encryption(certificate, b"dot").serverConnectionForTLS(None)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_alpn_protos([b"dot"])
    client = SSL.Connection(context, None)
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(1 << 16))
    assert client.get_alpn_proto_negotiated() == b"dot"
    shown = client.get_peer_certificate(as_cryptography=True)
    return shown.subject.rfc4514_string()


def test_a_good_pair_serves(tmp_path):
    assert served(Certificate(*make_certificate(tmp_path))) == "CN=dns.test"


def test_files_that_cannot_serve_are_told_in_one_line(tmp_path):
    good, key = make_certificate(tmp_path)
    other, other_key = make_certificate(tmp_path, "other.test")
    locked, locked_key = make_certificate(tmp_path, "locked.test", password=b"hunter2")
    old, old_key = make_certificate(tmp_path, "old.test", days=-1)
    young, young_key = make_certificate(tmp_path, "young.test")
    empty, huge = tmp_path / "empty", tmp_path / "huge"
    empty.write_bytes(b"")
    huge.write_bytes(bytes(MAX_FILE + 1))
    missing = tmp_path / "missing"

    assert refusal(missing, key) == (
        f"the certificate {missing} cannot be read (No such file or directory)"
    )
    assert refusal(good, tmp_path) == f"the key {tmp_path} cannot be read (Is a directory)"
    assert refusal(empty, key) == f"{empty} holds no certificate in PEM form"
    assert refusal(key, key) == f"{key} holds no certificate in PEM form"
    assert refusal(good, good) == f"{good} holds no private key in PEM form"
    assert refusal(good, other_key) == f"{other_key} is not the key of the certificate {good}"
    assert refusal(other, key) == f"{key} is not the key of the certificate {other}"
    assert "locked by a password" in refusal(locked, locked_key)
    assert f"{old} expired on 2" in refusal(old, old_key)
    assert "is longer than" in refusal(huge, key)
    with pytest.raises(CertificateError, match="is not valid before"):
        Certificate(young, young_key, clock=lambda: time.time() - 400 * 86_400)


def test_changed_files_serve_the_next_connection(tmp_path):
    old, key = make_certificate(tmp_path, "old.test")
    certificate = Certificate(old, key)
    assert served(certificate) == "CN=old.test"
    certificate.refresh()
    assert certificate.reloads == 0
    fresh, fresh_key = make_certificate(tmp_path, "fresh.test")
    fresh.replace(old)
    fresh_key.replace(key)
    assert served(certificate) == "CN=old.test"
    certificate.refresh()
    assert served(certificate) == "CN=fresh.test"
    assert certificate.reloads == 1


def test_half_a_change_keeps_the_old_pair_and_says_so_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, "blockstore")
    old, key = make_certificate(tmp_path, "old.test")
    certificate = Certificate(old, key)
    fresh, fresh_key = make_certificate(tmp_path, "fresh.test")
    fresh.replace(old)
    for _ in range(3):
        certificate.refresh()
    assert served(certificate) == "CN=old.test"
    (line,) = [record.getMessage() for record in caplog.records]
    assert (
        line == f"The old certificate stays in use: {key} is not the key of the certificate {old}."
    )
    fresh_key.replace(key)
    certificate.refresh()
    assert served(certificate) == "CN=fresh.test"
    key.unlink()
    certificate.refresh()
    assert served(certificate) == "CN=fresh.test"


def test_the_end_of_a_certificate_is_spoken_of_before_and_after_but_once(tmp_path, caplog):
    now = [time.time()]
    files = make_certificate(tmp_path, days=10)
    certificate = Certificate(*files, clock=lambda: now[0])
    assert not caplog.records
    now[0] += 4 * 86_400
    certificate.refresh()
    certificate.refresh()
    (record,) = caplog.records
    assert "expires on" in record.getMessage()
    now[0] += 20 * 86_400
    assert served(certificate) == "CN=dns.test"  # better than a door that is shut
