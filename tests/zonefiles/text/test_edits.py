"""Edits of single record sets: what was asked for changes, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zonefiles.text.edits import EditError, difference, edit_zonefile, record_sets
from zonefiles.text.zonefile import parse_zonefile

NAME = "alice.id"
OLD = b"""$ORIGIN alice.id
$TTL 300
; the house
@       A 192.0.2.1        ; this one
        MX 10 mail
www     A 192.0.2.2
        AAAA 2001:db8::2
        TXT "a ; b" "c"
*       CNAME www
"""


def edit(*records: str, delete: tuple[str, ...] = (), old: bytes | None = OLD) -> str:
    return edit_zonefile(old, NAME, records=records, deletions=delete).decode()


def test_a_record_takes_the_place_of_its_set_and_all_else_stays_as_it_was_written():
    assert edit("www A 192.0.2.9") == OLD.decode().replace(
        "www     A 192.0.2.2\n        AAAA", "www AAAA"
    ) + ("www A 192.0.2.9\n")


def test_records_of_one_owner_and_type_make_one_set():
    sets = record_sets(parse_zonefile(edit("www A 192.0.2.9", "www A 192.0.2.8").encode(), NAME))
    assert len(sets[(b"www",), 1]) == 2


def test_a_new_owner_is_added_at_the_end():
    assert edit('hello 60 TXT "x y"') == OLD.decode() + 'hello 60 TXT "x y"\n'


def test_a_set_and_an_owner_are_deleted():
    assert "192.0.2.2" not in edit(delete=("www A",))
    gone = edit(delete=("www",))
    assert "2001:db8" not in gone
    assert "a ; b" not in gone
    assert "mail" not in edit(delete=("@ MX",))


def test_the_first_record_of_a_name_without_data_makes_its_zone_file():
    assert edit("@ A 192.0.2.1", old=None) == "$ORIGIN alice.id\n$TTL 3600\n@ A 192.0.2.1\n"


def test_behind_another_origin_a_record_means_what_it_says():
    old = b"$TTL 60\n$ORIGIN sub.alice.id.\nx A 192.0.2.1\n"
    text = edit("y A 192.0.2.2", old=old)
    assert text.endswith("$ORIGIN alice.id.\ny A 192.0.2.2\n")
    assert ((b"y",), 1) in record_sets(parse_zonefile(text.encode(), NAME))


def test_without_a_ttl_of_the_file_a_record_gets_its_own():
    assert edit("y A 192.0.2.2", old=b"x 9 A 192.0.2.1\n").endswith("y 3600 A 192.0.2.2\n")
    assert edit("y 7 A 192.0.2.2", old=b"x 9 A 192.0.2.1\n").endswith("y 7 A 192.0.2.2\n")
    assert edit("y IN A 192.0.2.2", old=b"x 9 A 192.0.2.1").endswith("y 3600 IN A 192.0.2.2\n")


@pytest.mark.parametrize(
    ("records", "delete", "why"),
    [
        (("www A nonsense",), (), "no record"),
        (("www A 192.0.2.1\nwww A 192.0.2.2",), (), "not one record"),
        (("$ORIGIN x.",), (), "not one record"),
        (("elsewhere.org. A 192.0.2.1",), (), "not one record"),
        (("",), (), "not one record"),
        (("www CNAME a",), (), "CNAME"),
        ((), ("www SRV",), "nothing to delete"),
        ((), ("www NONSENSE",), "no record type"),
        ((), ("www A 192.0.2.2",), "names no record set"),
        ((), ("elsewhere.org.",), "names no record set"),
    ],
)
def test_what_cannot_be_done_is_told(records, delete, why):
    with pytest.raises(EditError, match=why):
        edit(*records, delete=delete)


def test_data_that_is_no_zone_file_is_not_edited():
    with pytest.raises(EditError, match="give a whole new one"):
        edit("www A 192.0.2.1", old=b'{"json": true}')


def test_a_file_in_which_lines_say_nothing_is_left_to_its_author():
    old = b"$TTL 60\nwww TXT ( one\n two )\n"
    with pytest.raises(EditError, match="edit the file and give it whole"):
        edit("www TXT three", old=old)


def test_the_difference_is_shown_line_by_line():
    new = edit_zonefile(OLD, NAME, records=["hello A 192.0.2.7"])
    shown = difference(OLD, new, NAME)
    assert "+hello A 192.0.2.7" in shown
    assert not [line for line in shown if line.startswith("-") and not line.startswith("---")]
    assert difference(OLD, OLD, NAME) == []
    assert any("\\xff" in line for line in difference(None, b"\xff", NAME))


OWNERS = st.sampled_from(["@", "a", "b", "a.b", "*"])
LINES = st.tuples(OWNERS, st.sampled_from(["", "60 ", "IN "]), st.integers(0, 9), st.booleans())


def line(owner: str, middle: str, number: int, text: bool) -> str:
    return f"{owner} {middle}" + (f'TXT "t {number};"' if text else f"A 192.0.2.{number}")


@given(st.lists(LINES, max_size=8), st.lists(LINES, min_size=1, max_size=3), st.booleans())
def test_whatever_is_edited_holds_the_new_sets_and_the_others_unchanged(old, new, indent):
    lines = [line(*one) for one in old]
    if indent and lines:
        lines.append("   60 AAAA 2001:db8::1")
    before = ("$TTL 300\n" + "\n".join(lines) + "\n").encode()
    records = [line(*one) for one in new]
    after = record_sets(parse_zonefile(edit_zonefile(before, NAME, records=records), NAME))
    olds = record_sets(parse_zonefile(before, NAME))
    news = record_sets(parse_zonefile(("$TTL 300\n" + "\n".join(records)).encode(), NAME))
    assert after.keys() == olds.keys() | news.keys()
    for key, rrset in after.items():
        wanted = news.get(key) or olds[key]
        assert set(rrset.to_wire((b"x",))) == set(wanted.to_wire((b"x",)))
