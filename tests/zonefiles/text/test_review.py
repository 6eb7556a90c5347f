"""Data is paid for only when its owner knows how it will be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zonefiles.text.review import MAX_NOTES, UnfitData, review

ZONES = {"bs": "id", "podcast.example.net": "podcast"}
GOOD = "www A 192.0.2.1\n"


def notes(text: str, name: str = "n-svc.id") -> tuple[str, ...]:
    return review((GOOD + text + "\n").encode(), name, ZONES)


@pytest.mark.parametrize(
    ("line", "read_as"),
    [
        ("www.n-svc.bs A 192.0.2.1", "www.n-svc.bs.n-svc.id"),
        ("n-svc.bs A 192.0.2.1", "n-svc.bs.n-svc.id"),
        ("WWW.N-SVC.BS A 192.0.2.1", "www.n-svc.bs.n-svc.id"),
        ("www.n-svc.id TXT hello", "www.n-svc.id.n-svc.id"),
        ("alice.bs A 192.0.2.1", "alice.bs.n-svc.id"),
        ("shop.example.com A 192.0.2.1", "shop.example.com.n-svc.id"),
        ("a.podcast.example.net A 192.0.2.1", "a.podcast.example.net.n-svc.id"),
        ("shop NS ns1.hosting.example.com", "ns1.hosting.example.com.n-svc.id"),
        ("@ MX 10 mx.example.org", "mx.example.org.n-svc.id"),
        ("_sip._tcp SRV 1 1 5060 sip.example.net", "sip.example.net.n-svc.id"),
        ("shop CNAME shop.example.photography", "shop.example.photography.n-svc.id"),
        ("shop CNAME kauf.beispiel.xn--vermgensberatung-pwb", "kauf.beispiel.xn--"),
        ("old DNAME example.de", "example.de.n-svc.id"),
        ("4 PTR host.example.com", "host.example.com.n-svc.id"),
        ("svc SVCB 1 svc.example.com alpn=h2", "svc.example.com.n-svc.id"),
        ("svc HTTPS 0 svc.example.com", "svc.example.com.n-svc.id"),
        ("shop CNAME www.n-svc.bs", "www.n-svc.bs.n-svc.id"),
        ("shop CNAME www.n-svc.id", "www.n-svc.id.n-svc.id"),
        ("shop CNAME alice.bs", "alice.bs.n-svc.id"),
        ("$ORIGIN sub\nshop CNAME shop.example.com", "shop.example.com.sub.n-svc.id"),
    ],
)
def test_a_name_that_looks_whole_and_is_read_as_relative_is_told(line: str, read_as: str) -> None:
    (note,) = notes(line)
    assert read_as in note
    assert "without a dot at its end" in note


@pytest.mark.parametrize(
    "line",
    [
        "shop NS ns1.hosting.example.com.",
        "shop CNAME www",
        "shop CNAME www.n-svc.id.",
        "www.sub CNAME a.b",
        "a.b A 192.0.2.1",
        "api.dev A 192.0.2.1",
        "db.eu A 192.0.2.1",
        "auth.id A 192.0.2.1",
        "web.prod A 192.0.2.1\nshop CNAME web.prod",
        "*.prod A 192.0.2.1\nshop CNAME web.prod",
        "eu NS ns1.eu\nns1.eu A 192.0.2.1",
        "_dmarc.mail TXT v=DMARC1",
        "com A 192.0.2.1\nshop CNAME com",
        "mail MX 0 .",
        "_sip._tcp SRV 0 0 0 .",
        "$ORIGIN n-svc.id\nsub CNAME www",
        "$ORIGIN n-svc.id.\nsub CNAME www.n-svc.id.",
        "1.0.0.127.in-addr PTR www",
        "txt TXT www.n-svc.bs",
    ],
)
def test_a_name_that_is_read_as_it_looks_is_not_told(line: str) -> None:
    found = notes(line)
    assert found == ()


def test_what_is_left_out_is_counted() -> None:
    (note,) = notes("other.example. A 192.0.2.1\n@ ALIAS www")
    assert note.endswith(": 2 records of the data")


def test_many_such_names_are_counted_and_not_all_told() -> None:
    text = "\n".join(f"x{n} CNAME h{n}.example.com" for n in range(30))
    told = notes(text)
    assert len(told) == MAX_NOTES + 1
    assert told[-1].startswith("so do 20 more names")


@pytest.mark.parametrize(
    "text",
    ["", ";nothing\n", "www.example.com. A 192.0.2.1\n", "$TTL 5\n", "x ALIAS y\n", "\n\n"],
)
def test_a_file_of_which_no_record_remains_is_unfit(text: str) -> None:
    with pytest.raises(UnfitData, match=r"no record remains that alice\.id could") as unfit:
        review(text.encode(), "alice.id", ZONES)
    assert "--raw" in unfit.value.hint
    assert "no record" not in "".join(review(text.encode(), "alice.id", ZONES, raw=True))


def test_what_is_neither_json_nor_a_zone_file_is_unfit() -> None:
    for data in (b"\xff\xfe", b"hello\n", b"www A 192.0.2.999\n", b"x TYPE61 \\# 0\n"):
        with pytest.raises(UnfitData, match=r"nor a zone file of alice\.id .line 1"):
            review(data, "alice.id", ZONES)
        assert "dot" not in "".join(review(data, "alice.id", ZONES, raw=True))
    assert review(b'{"a": 1}', "alice.id", ZONES) == ()


@given(st.binary(max_size=200), st.booleans())
def test_any_data_has_notes_or_is_unfit(data: bytes, raw: bool) -> None:
    try:
        said = review(b"$ORIGIN x\n" + data, "alice.id", ZONES, raw=raw)
    except UnfitData as unfit:
        said, raw = (str(unfit), unfit.hint), not raw
    assert all(map(str.isprintable, said))
    assert raw or "--raw" not in "".join(said)
