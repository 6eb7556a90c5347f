"""The dig lines of the specification, asked by the real dig of the real doors."""

import re
import shutil
import socket
import struct
import subprocess
import sys

import dns.message
import pytest

from tests.conftest import ROOT

DIG = shutil.which("dig")

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(DIG is None, reason="dig is missing: install bind9-dnsutils"),
]


@pytest.fixture(scope="session", params=["asyncio", "uvloop"] if sys.platform != "win32" else [""])
def port(request, tmp_path_factory):
    log = tmp_path_factory.mktemp("doors") / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.resolver.doors.doors_process", request.param],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        yield int(line)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
    assert log.read_text() == "", "the doors had something to complain about"


class Dug:
    """What dig printed."""

    def __init__(self, text: str) -> None:
        self.text = text
        text = text.replace(";; WARNING: recursion requested but not available", "")
        assert "WARNING" not in text
        assert "Warning" not in text
        self.status = re.search(r"status: (\w+)", text)[1]
        self.flags = set(re.search(r";; flags: ([a-z ]*);", text)[1].split())
        self.ede = re.findall(r"; EDE: (\d+)[^:\n]*(?:: \((.*)\))?", text)

    def section(self, name: str) -> list[list[str]]:
        part = re.search(rf";; {name} SECTION:\n(.*?)\n\n", self.text + "\n", re.DOTALL)
        return [] if part is None else [line.split(None, 4) for line in part[1].splitlines()]

    @property
    def answer(self) -> list[list[str]]:
        return self.section("ANSWER")


@pytest.fixture
def dig(port):
    def run(*words: str, raw: bool = False):
        command = [DIG, "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", "+norecurse"]
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout if raw else Dug(done.stdout)

    return run


def test_txt(dig):
    got = dig("alice.bs", "TXT")
    assert (got.status, got.flags) == ("NOERROR", {"qr", "aa"})
    assert got.answer == [["alice.bs.", "3600", "IN", "TXT", '"hello"']]
    assert "udp: 1232" in got.text


def test_the_data_of_a_name_in_short_form(dig):
    assert dig("swiftonsecurity.bs", "TXT", "+short", raw=True) == (
        '"{\\"name\\":{\\"formatted\\": \\"Taylor Swift\\"}}"\n'
    )


def test_tcp(dig):
    got = dig("alice.bs", "TXT", "+tcp")
    assert got.answer[0][4] == '"hello"'
    assert "(TCP)" in got.text


def test_a_long_record_is_truncated_where_tcp_is_forbidden(dig):
    got = dig("+notcp", "+bufsize=512", "+ignore", "big.bs", "TXT")
    assert got.flags == {"qr", "aa", "tc"}
    assert got.answer == []
    assert "OPT PSEUDOSECTION" in got.text


def test_a_long_record_is_whole_where_dig_may_go_on_to_tcp(dig):
    got = dig("+bufsize=512", "big.bs", "TXT")
    assert "Truncated, retrying in TCP mode" in got.text
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', got.answer[0][4])
    text = re.sub(r"\\(.)", r"\1", "".join(strings))
    assert text.encode() == bytes(range(32, 127)) * 400


def test_nsid(dig):
    assert '("ns.test")' in dig("+nsid", "alice.bs", "TXT").text


def test_a_later_edns_version(dig):
    got = dig("+edns=100", "+noednsneg", "alice.bs", "TXT")
    assert got.status == "BADVERS"
    assert "EDNS: version: 0" in got.text
    assert got.answer == []


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("+ednsopt=100", "OPT=100"),
        ("+expire", "EXPIRE"),  # it is for secondaries, and the zone does not expire
        ("+subnet=192.0.2.0/24", "CLIENT-SUBNET"),
        ("+padding=128", "PAD"),  # for encrypted doors
        ("+keepalive", "KEEPALIVE"),  # for streams
    ],
)
def test_an_option_that_says_nothing_here_is_neither_minded_nor_echoed(dig, option, shown):
    got = dig("+notcp", option, "alice.bs", "TXT")
    assert got.status == "NOERROR"
    assert shown not in got.text


def test_unknown_flags_are_not_echoed(dig):
    got = dig("+ednsflags=0x80", "alice.bs", "TXT")
    assert got.status == "NOERROR"
    assert "MBZ" not in got.text


def test_do_is_echoed(dig):
    assert "flags: do; udp" in dig("+dnssec", "alice.bs", "TXT").text


def test_without_edns(dig):
    got = dig("+noedns", "alice.bs", "TXT")
    assert got.answer[0][4] == '"hello"'
    assert "OPT PSEUDOSECTION" not in got.text


def test_ad_and_cd_are_not_echoed(dig):
    assert dig("+adflag", "+cdflag", "alice.bs", "TXT").flags == {"qr", "aa"}


def test_recursion_is_not_offered(dig):
    got = dig("+recurse", "alice.bs", "TXT")
    assert got.flags == {"qr", "aa", "rd"}


def test_another_opcode(dig):
    got = dig("+opcode=15", "+header-only", "alice.bs")
    assert got.status == "NOTIMP"
    assert "opcode: RESERVED15" in got.text
    assert dig("+opcode=15", "alice.bs").status == "NOTIMP"


def test_a_header_alone(dig):
    assert dig("+header-only", "+nocookie", "alice.bs").status == "FORMERR"


def test_a_header_with_a_cookie_asks_for_a_cookie(dig):
    got = dig("+header-only", "+cookie", "alice.bs")  # RFC 7873 5.4
    assert got.status == "NOERROR"
    assert "(good)" in got.text


def test_a_cookie_comes_back_good(dig):
    got = dig("+cookie", "alice.bs", "TXT")
    assert got.status == "NOERROR"
    assert "(good)" in got.text
    assert dig("+cookie=0123456789abcdef" + 32 * "0", "alice.bs", "TXT").status == "NOERROR"


def test_the_servers_own_records(dig):
    assert '"name=alice.id" "status=live"' in dig("_blockstore.alice.bs", "TXT").text
    assert '"state=following"' in dig("_status.bs", "TXT").text


def test_the_servers_version(dig):
    got = dig("CH", "TXT", "version.bind")
    assert got.answer == [["version.bind.", "0", "CH", "TXT", '"Blockstore 1.0"']]
    assert dig("CH", "TXT", "id.server").answer[0][4] == '"ns.test"'
    assert dig("CH", "TXT", "authors.bind").status == "REFUSED"


def test_any_gets_one_rrset(dig):
    got = dig("+notcp", "www.alice.bs", "ANY")
    assert [record[3] for record in got.answer] == ["A"]


def test_a_transfer_is_refused(dig):
    assert "Transfer failed" in dig("AXFR", "bs", raw=True)


def test_an_unknown_type(dig):
    got = dig("TYPE65280", "alice.bs")
    assert (got.status, got.answer) == ("NOERROR", [])
    assert got.section("AUTHORITY")[0][3] == "SOA"


def test_the_case_of_the_question_is_kept(dig):
    got = dig("AlIcE.bS", "TXT")
    assert ";AlIcE.bS." in got.text
    assert got.answer[0][0] == "AlIcE.bS."


def test_the_zone_itself(dig):
    (soa,) = dig("bs", "SOA").answer
    assert soa[4] == "localhost. nobody.invalid. 1000 600 300 604800 300"
    (ns,) = dig("bs", "NS").answer
    assert ns[4] == "localhost."


def test_a_reverse_name_is_not_ours(dig):
    assert dig("-x", "127.0.0.1").status == "REFUSED"


def test_an_unknown_name(dig):
    got = dig("nosuch.bs")
    assert (got.status, got.flags) == ("NXDOMAIN", {"qr", "aa"})
    assert got.section("AUTHORITY")[0][:4] == ["bs.", "300", "IN", "SOA"]
    assert got.ede == [("0", "not registered at block 1000")]


def test_a_foreign_name(dig):
    got = dig("example.com")
    assert (got.status, got.flags) == ("REFUSED", {"qr"})
    assert got.ede[0][0] == "20"


def test_data_that_crosses_the_network_and_data_that_cannot(dig):
    assert dig("slow.bs", "TXT").answer[0][4] == '"over the network"'
    got = dig("lost.bs", "TXT")
    assert got.status == "SERVFAIL"
    assert got.ede[0][0] == "22"


def test_kept_open_and_pipelined_tcp(port):
    queries = [dns.message.make_query("www.alice.bs", "A") for _ in range(200)]
    sent = b"".join(struct.pack("!H", len(q.to_wire())) + q.to_wire() for q in queries)
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            octets = stream.read()
    seen = set()
    while octets:
        (length,) = struct.unpack_from("!H", octets)
        seen.add(dns.message.from_wire(octets[2 : 2 + length]).id)
        octets = octets[2 + length :]
    assert seen == {query.id for query in queries}


@pytest.mark.skipif(shutil.which("kdig") is None, reason="kdig is missing: install knot-dnsutils")
def test_kdig_reuses_a_connection_and_finds_the_keepalive(port):
    done = subprocess.run(
        ["kdig", "@127.0.0.1", "-p", str(port), "+tcp", "+keepopen", "+ednsopt=11",
         "alice.bs", "TXT", "www.alice.bs", "A"],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0
    assert '"hello"' in done.stdout
    assert "192.0.2.1" in done.stdout
    assert "WARNING" not in done.stdout


@pytest.mark.data
def test_malformed_packets_leave_the_doors_answering(port, data_dir):
    good = dns.message.make_query("alice.bs", "TXT")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        for file in sorted((data_dir / "dns" / "malformed").glob("*.bin")):
            client.send(file.read_bytes())
            client.send(good.to_wire())
            while True:
                reply = client.recv(65_535)
                assert len(reply) <= 1232
                if dns.message.from_wire(reply).id == good.id:
                    break
