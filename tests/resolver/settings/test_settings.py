"""Settings: what is read, from where, what is refused and how that is said."""

import base64
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.bitcoin.headers import parse_header
from indexer.following.follower import Follower
from indexer.networks import NETWORKS
from indexer.node.node import BitcoinNode
from indexer.protocol.schema import header_key
from indexer.sandbox.node import SandboxNode
from indexer.table.table import NameTable
from resolver.process.places import ENV_PREFIX, SettingsError, config_path, env_name
from resolver.settings.settings import load
from resolver.settings.table import Settings
from resolver.settings.text import effective, is_secret, markdown_table, rows, to_toml
from resolver.settings.types import read_duration, read_size, without_credentials
from resolver.words import VERSION
from tests.conftest import ROOT

HOME = {"HOME": "/home/ada"}
TLS = {"tls_certificate": "/c.pem", "tls_key": "/k.pem"}


def refused(toml=None, environ=None, flags=None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(toml or {}, HOME | (environ or {}), flags or {})
    return caught.value.problems


@pytest.mark.parametrize(
    ("toml", "environ", "flags", "port", "source"),
    [
        ({}, {}, {}, 6253, "default"),
        ({"dns_port": 1}, {}, {}, 1, "settings file"),
        ({"dns_port": 1}, {"BLOCKSTORE_DNS_PORT": "2"}, {}, 2, "environment BLOCKSTORE_DNS_PORT"),
        ({"dns_port": 1}, {"BLOCKSTORE_DNS_PORT": "2"}, {"dns_port": "3"}, 3, "flag --dns-port"),
        ({"dns_port": 1}, {}, {"dns_port": "3"}, 3, "flag --dns-port"),
    ],
)
def test_a_flag_beats_the_environment_which_beats_the_file(toml, environ, flags, port, source):
    settings = load(toml, HOME | environ, flags)
    assert settings.dns_port == port
    assert settings.source_of("dns_port") == source


@pytest.mark.parametrize(
    ("network", "folder", "url", "confirmations", "cookie"),
    [
        ("mainnet", "", "http://127.0.0.1:8332", 6, ".cookie"),
        ("testnet", "/testnet", "http://127.0.0.1:18332", 6, "testnet3/.cookie"),
        ("regtest", "/regtest", "http://127.0.0.1:18443", 1, "regtest/.cookie"),
    ],
)
def test_defaults_follow_the_network(network, folder, url, confirmations, cookie):
    settings = load({}, HOME, {"network": network})
    assert settings.working_dir == Path("/home/ada/.blockstore" + folder)
    assert settings.log_file == settings.working_dir / "blockstored.log"
    assert settings.node_url == url
    assert settings.confirmations == confirmations
    assert settings.node_cookie_file == Path("/home/ada/.bitcoin") / cookie


@pytest.mark.parametrize("network", ["regtest", "signet", "testnet4"])
def test_the_first_block_is_a_choice_where_no_names_are_that_all_agree_on(network):
    assert load({}, HOME, {"network": network}).chain == NETWORKS[network]
    chosen = load({"first_block": 7}, HOME, {"network": network}).chain
    assert chosen == replace(NETWORKS[network], first_block=7)


@pytest.mark.parametrize("network", ["mainnet", "testnet", "sandbox"])
def test_elsewhere_the_first_block_is_the_same_for_everybody(network):
    begins = NETWORKS[network].first_block
    assert load({"first_block": begins}, HOME, {"network": network}).chain == NETWORKS[network]
    with pytest.raises(SettingsError, match=f"begin at block {begins} for everybody"):
        load({"first_block": 7}, HOME, {"network": network})


def test_an_index_begins_at_the_first_block_that_is_set(tmp_path):
    network = load({"first_block": 7}, HOME, {"network": "regtest"}).chain
    with SandboxNode() as sandbox:
        mined = sandbox.generate(9, b"\x51")
        table = NameTable(tmp_path / "names", network)
        follower = Follower(BitcoinNode(sandbox.url), table, network, confirmations=1)
        while follower.step():
            pass
        assert follower.status.caught_up
        assert table.snapshot().height == 9
        held = [table.get(header_key(height)) for height in range(1, 10)]
        assert held[:6] == [None] * 6
        assert [parse_header(header).hash for header in held[6:]] == mined[6:]
        table.close()


def test_the_first_run_listens_on_loopback_only_at_the_documented_ports():
    settings = load({}, HOME, {})
    assert settings.listen == ("127.0.0.1",)
    assert (settings.api_host, settings.dht_host) == ("127.0.0.1", "127.0.0.1")
    assert (settings.dns_port, settings.api_port, settings.dht_port) == (6253, 6264, 6265)
    assert settings.zones == {"bs": "id"}


def test_no_cookie_file_is_guessed_for_a_node_that_is_given_a_user():
    assert load({"node_user": "a", "node_password": "b"}, HOME, {}).node_cookie_file is None
    assert load({"node_url": "http://a:b@node:8332"}, HOME, {}).node_cookie_file is None


def test_a_missing_home_matters_only_where_it_is_needed():
    assert load({}, {}, {"working_dir": "/x"}).working_dir == Path("/x")
    with pytest.raises(SettingsError, match="--working-dir"):
        load({}, {}, {})


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("stale_after", "2h", 7200.0),
        ("query_timeout", "1500ms", 1.5),
        ("max_ttl", "1d", 86400),
        ("archive_max_bytes", "1GiB", 2**30),
        ("archive_max_bytes", "5MB", 5_000_000),
        ("listen", "127.0.0.1, ::1", ("127.0.0.1", "::1")),
        ("listen", ("127.0.0.1", "::1"), ("127.0.0.1", "::1")),
        ("dht_bootstrap", "a.example:1,[::1]:2", (("a.example", 1), ("::1", 2))),
        (
            "zones",
            "BS.=id, podcast.example.net=podcast",
            {"bs": "id", "podcast.example.net": "podcast"},
        ),
        ("dns_port", "0", 0),
        ("nsid", "", ""),
        ("dot_port", "8853", 8853),
        (
            "forward",
            "192.0.2.53,[2001:db8::53]:5353,tls://9.9.9.9#dns.quad9.net",
            (
                ("192.0.2.53", 53, False, ""),
                ("2001:db8::53", 5353, False, ""),
                ("9.9.9.9", 853, True, "dns.quad9.net"),
            ),
        ),
        ("allow_forward", "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        ("transfer_to", "192.0.2.7", ("192.0.2.7/32",)),
        ("trust_ad", "yes", "yes"),
        ("doh_port", "off", "off"),
    ],
)
def test_text_from_people_becomes_values(name, value, read):
    assert getattr(load({}, HOME, {name: value}), name) == read
    if isinstance(value, str):
        assert getattr(load({}, HOME | {env_name(name): value}, {}), name) == read


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("network", "mainet", "'mainnet', 'testnet', 'testnet4', 'signet', 'regtest' or 'sandbox'"),
        ("dns_port", "70000", "65535"),
        ("dns_port", "-1", "0"),
        ("dns_port", "x", "integer"),
        ("dns_port", True, "true and false"),
        ("confirmations", 0, "1"),
        ("listen", "localhost", "addresses"),
        ("listen", "", "at least 1"),
        ("listen", 5, "tuple"),
        ("dht_host", "::1", "IPv4"),
        ("dht_bootstrap", "a", "HOST:PORT"),
        ("dht_bootstrap", [5], "tuple"),
        ("query_timeout", "3 weeks", "duration"),
        ("archive_max_bytes", "many", "size"),
        ("archive_max_bytes", "1", "65536"),
        ("zones", "bs", "SUFFIX=NAMESPACE"),
        ("zones", {"b s": "id"}, "zone"),
        ("zones", {"bs": "No Namespace"}, "namespace"),
        ("zones", {}, "zone"),
        ("node_url", "ftp://node", "URL"),
        ("nsid", "n" * 65, "64"),
        ("log_level", "loud", "'error'"),
        ("dot_port", "never", "integer"),
        ("forward", "192.0.2.53:x", "ADDRESS:PORT"),
        ("forward", "dns.example:53", "no IP address"),
        ("forward", "tls://dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
        ("forward", "https://9.9.9.9/dns-query", "tls://ADDRESS#NAME"),
        ("forward_ca", "/ca.pem", "asked over TLS"),
        ("forward", "127.0.0.1:6253", "this server itself"),
        ("allow_forward", "10.0.0.1/8", "prefixes"),
        ("trust_ad", "maybe", "yes"),
        ("chain_first", "podcast", "none of the zones"),
        ("chain_first", "bs", "somebody to ask"),
        ("doh_port", 70_000, "65535"),
        ("log_file", "/tmp/x\0y", "U+0000"),
        ("auto_renew", ["a\0.id"], "U+0000"),
    ],
)
def test_a_bad_value_is_refused_in_one_line_with_its_name_origin_and_remedy(name, value, says):
    (line,) = refused(toml={name: value})
    assert line.startswith(f"{name}: ")
    assert "(from settings file /home/ada/.blockstore/blockstore.toml)" in line
    assert says in line
    assert "\n" not in line


def test_every_bad_value_is_named_at_once():
    lines = refused(toml={"dns_port": -1, "api_port": 99999}, flags={"query_timeout": "soon"})
    assert [line.partition(":")[0] for line in lines] == ["dns_port", "api_port", "query_timeout"]
    assert "(from flag --query-timeout)" in lines[2]


def test_every_kind_of_mistake_of_a_file_is_named_at_once():
    toml = {"dns_prot": 1, "api_port": True, "dht_port": -1, "min_ttl": 100, "max_ttl": 50}
    toml |= {"tls_key": "k.pem", "chain_first": "bs", "forward": 5, "wait_for_node": "perhaps"}
    lines = refused(toml, {"BLOCKSTORE_APIPORT": "1"})
    named = ["dns_prot", "BLOCKSTORE_APIPORT", "api_port", "dht_port", "forward", "wait_for_node"]
    assert sorted(line.partition(":")[0] for line in lines) == sorted(
        [*named, "min_ttl", "tls_key"]
    )


def test_no_line_blames_a_good_value_for_a_bad_one():
    (line,) = refused({"node_user": "a", "node_password": 5})
    assert line.startswith("node_password: ")
    (line,) = refused({"forward": "nowhere", "chain_first": "bs"})
    assert line.startswith("forward: ")


@pytest.mark.parametrize(
    "toml",
    [{"forward": ["\x1b[2J"]}, {"zones": {"\x1b": "id"}}, {"chain_first": "\x1b"}, {"\x1b]0;": 1}],
)
def test_no_message_holds_what_a_terminal_would_obey(toml):
    assert all(line.isprintable() for line in refused(toml))


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ({"min_ttl": 100, "max_ttl": 50}, "min_ttl"),
        ({"stale_after": "2d", "refuse_after": "1d"}, "stale_after"),
        ({"node_user": "a"}, "node_user"),
        ({"node_password": "hunter2"}, "node_password"),
        ({"dns_port": 6264}, "api_port"),
        ({"dns_port": 6265}, "dht_port"),
        ({"tls_certificate": "c.pem"}, "tls_certificate"),
        ({"tls_key": "k.pem"}, "tls_key"),
        (TLS | {"dot_port": 6253}, "dot_port"),
        (TLS | {"doh_port": 6264}, "doh_port"),
        (TLS | {"doh_port": 853}, "doh_port"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values, first):
    (line,) = refused(toml=values)
    assert line.startswith(f"{first}: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("toml", "environ", "near"),
    [
        ({"dns_prot": 1}, {}, "did you mean dns_port?"),
        ({"dns-port": 1}, {}, "did you mean dns_port?"),
        ({"zzz": 1}, {}, "blockstored config"),
        ({}, {"BLOCKSTORE_DNSPORT": "1"}, "did you mean dns_port?"),
    ],
)
def test_an_unknown_setting_is_answered_with_its_nearest_kin(toml, environ, near):
    (line,) = refused(toml, environ)
    assert near in line


def test_the_environment_of_other_programs_is_left_alone():
    assert load({}, HOME | {f"{ENV_PREFIX}DATA": "/x", "DNS_PORT": "1"}, {}).dns_port == 6253


@pytest.mark.parametrize("shape", [["hunter2"], {"a": "hunter2"}, 5])
def test_a_secret_is_in_no_message(shape):
    (line,) = refused(toml={"node_user": "a", "node_password": shape})
    assert "hunter2" not in line
    assert "node_password" in line


def test_a_secret_is_in_no_output():
    settings = load(
        {"node_user": "ada", "node_password": "hunter2", "node_url": "http://ada:hunter2@n:1"},
        HOME,
        {},
    )
    shown = to_toml(settings) + json.dumps(effective(settings)) + markdown_table()
    assert "hunter2" not in shown
    assert "******" in shown


def test_what_config_prints_can_be_read_back_and_means_the_same():
    flags = {"zones": "bs=id,x.example=podcast", "dht_bootstrap": "1.2.3.4:5,[::1]:6"}
    flags |= {"forward": "1.2.3.4:53,[::1]:5353,tls://[::2]#a.b,tls://1.1.1.1"}
    flags |= {"chain_first": "bs", "doh_port": "off"}
    settings = load({"hostname": 'a "quoted" \\ name'}, HOME, flags)
    again = load(tomllib.loads(to_toml(settings)), HOME, {})
    assert again.model_dump() == settings.model_dump()


def test_the_settings_file_is_looked_for_in_the_working_folder():
    assert config_path(HOME, {}) == (Path("/home/ada/.blockstore/blockstore.toml"), False)
    assert config_path(HOME, {"working_dir": "/w"}) == (Path("/w/blockstore.toml"), False)
    assert config_path(HOME, {"config": "~/b.toml"}) == (Path("/home/ada/b.toml"), True)
    assert config_path({}, {}) == (None, False)


def test_a_file_may_name_the_network_of_its_own_folder():
    settings = load({"network": "regtest"}, HOME, {})
    assert settings.working_dir == settings.config.parent == Path("/home/ada/.blockstore")
    assert settings.confirmations == 1


def test_every_setting_has_a_meaning_a_default_and_a_row_in_the_table():
    table = markdown_table()
    for name, row in rows():
        assert row.description, name
        assert row.description.endswith("."), name
        assert f"| `{name}` |" in table


def test_the_password_and_the_secret_of_cookies_are_secret():
    secret = [name for name, _row in rows() if is_secret(name)]
    assert secret == ["node_password", "cookie_secret"]


@pytest.mark.parametrize("good", ["0f" * 16, "0F" * 16 + ", " + "aa" * 16])
def test_a_cookie_secret_is_one_or_two_times_32_hex_digits(good):
    assert load({"cookie_secret": good}, HOME, {}).cookie_secret == good
    for bad in ("", good[1:], good + ",", good + "0", "g" * 32):
        (line,) = refused({"cookie_secret": bad})
        assert line.endswith("32 hex digits are needed, and perhaps 32 more after a comma")
        assert not bad or bad not in line


def test_the_version_is_that_of_the_distribution():
    assert f'version="{VERSION}"' in (ROOT / "setup.py").read_text("utf-8")


@given(st.text(max_size=20))
def test_reading_a_number_with_a_unit_gives_a_number_or_says_what_is_needed(text):
    for read, word in ((read_duration, "duration"), (read_size, "size")):
        said = ""
        try:
            assert isinstance(read(text), int | float)
        except ValueError as error:
            said = str(error)
        assert not said or word in said


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30),
    st.lists(st.one_of(st.text(max_size=9), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "zo\nes"]), VALUES, max_size=5))
def test_whatever_the_file_holds_gives_settings_or_lines_for_people(toml):
    problems: tuple[str, ...] = ("none",)
    try:
        load(toml, HOME, {})
    except SettingsError as error:
        problems = error.problems
    assert problems
    assert all(line.isprintable() for line in problems)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("ask http://u:p@h:1/x now", "ask http://******@h:1/x now"),
        ("http://h/p@q", "http://h/p@q"),
        ("http://u:p%40x@h and https://v:w@i", "http://******@h and https://******@i"),
    ],
)
def test_credentials_are_cut_out_of_urls(text, clean):
    assert without_credentials(text) == clean


def test_where_there_are_a_cookie_and_a_password_the_cookie_lets_in(tmp_path):
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:fresh")
    given = {"node_user": "ada", "node_password": "lasting", "node_cookie_file": str(cookie)}
    settings = load(given, {"HOME": str(tmp_path)}, {})
    node = BitcoinNode(
        settings.node_url,
        user=settings.node_user,
        password=settings.node_password,
        cookie_file=settings.node_cookie_file,
    )
    shown = base64.b64decode(node.credentials.header().removeprefix("Basic "))
    assert (shown, node.credentials.is_lasting) == (b"__cookie__:fresh", False)
