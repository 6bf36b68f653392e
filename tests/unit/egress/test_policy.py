# ruff: noqa: RUF001, E501  # the look-alike letters are the attack, and the tables read better in wide rows

from __future__ import annotations

import ast
import ipaddress
import re
import socket
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import MAX_URL_CHARACTERS, EgressPolicy
from stenobird.errors import DestinationForbidden, InvalidURL
from tests.support.canary import Canary, open_canary
from tests.support.dns import FakeResolver

HOSTILE_CASES = Path(__file__).parents[2] / "data" / "hostile_cases.tsv"
READ_OFF_THE_URL = {
    "literal-v4",
    "literal-v4-boundary",
    "v4-encoding",
    "literal-v6",
    "v6-embeds-v4",
    "metadata",
    "names",
    "url-parse",
    "scheme",
}
BUILT_ELSEWHERE = {"dns", "redirect", "indirect", "container", "resource"}
POLICY = EgressPolicy()


def rows() -> list[tuple[str, str, str]]:
    lines = HOSTILE_CASES.read_text(encoding="utf-8").splitlines()[1:]
    return [
        (category, expect, ast.literal_eval(case))
        for category, expect, case in (x.split("\t") for x in lines)
    ]


def cases(expect: str) -> list[object]:
    return [
        pytest.param(case, id=f"{category}-{case[:60]!a}")
        for category, expected, case in rows()
        if category in READ_OFF_THE_URL and expected == expect
    ]


def networks(*texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in texts]


def test_every_category_of_the_file_is_tested_somewhere() -> None:
    assert {category for category, _, _ in rows()} == READ_OFF_THE_URL | BUILT_ELSEWHERE


@pytest.mark.parametrize("url", cases("deny"))
def test_hostile_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        POLICY.check_url(url)


@pytest.mark.parametrize("url", cases("allow"))
def test_public_literal_is_allowed(url: str) -> None:
    assert str(POLICY.check_url(url)) == url


@pytest.mark.anyio
@pytest.mark.parametrize("url", cases("deny"))
async def test_hostile_url_reaches_nothing_when_it_is_opened(url: str) -> None:
    async with open_canary() as canary:
        await assert_refused(url, canary)
        assert await canary.settle() == 0


async def assert_refused(url: str, canary: Canary) -> None:
    at_canary = re.sub(r"^(http://(?:\[.*\]|[^/:@\\]+))/", rf"\1:{canary.port}/", url)
    ports = frozenset({80, 443, canary.port})
    resolver = FakeResolver({})
    async with EgressClient(EgressPolicy(ports=ports), resolver=resolver) as client:
        for each in (url, at_canary):
            with pytest.raises(DestinationForbidden):
                await client.open(each)
    assert resolver.calls == []


V4_DENIED = [
    "0.0.0.0", "0.255.255.255", "10.255.255.255", "100.64.0.0", "100.100.100.200", "127.0.0.2", "127.255.255.255",
    "168.63.129.16", "169.254.0.0", "169.254.170.2", "169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.8",
    "192.0.0.170", "192.0.0.192", "192.0.2.255", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.0",
    "192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.0", "224.0.0.1",
    "239.255.255.255", "240.0.0.0", "255.255.255.255",
]  # fmt: skip
V4_ALLOWED = [
    "1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
    "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
]  # fmt: skip
V6_DENIED = [
    "::", "::1", "::2", "::7f00:1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "::ffff:0:8.8.8.8",
    "64:ff9b::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "64:ff9b:1:ffff::a00:1", "100::1", "1fff::1",
    "2001::1", "2001:0:5ef5:79fd::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:db8:ffff::1",
    "2002:808:808::", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3ffe::1", "3fff::1", "3fff:fff::1", "4000::1",
    "5f00::1", "a000::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fdff::1", "fe00::1", "fe80::1",
    "febf::1", "fec0::1", "feff::1", "ff00::", "ff02::1", "ff0e::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:10.0.0.1",
]  # fmt: skip
V6_ALLOWED = [
    "2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111",
    "2620:4f:7fff::1", "2a00:1450:4001::1", "2a00:1450::5efe:8.8.8.8", "3ffd::1", "3fff:1000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", V4_DENIED + V6_DENIED)
def test_address_that_is_not_public_is_refused_as_literal_and_as_answer(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    with pytest.raises(InvalidURL):
        POLICY.check_url(f"http://{f'[{address}]' if parsed.version == 6 else address}/")
    with pytest.raises(DestinationForbidden, match=r"host\.test leads to an address that is not public"):
        POLICY.check_address(parsed, host="host.test")


@pytest.mark.parametrize("address", V4_ALLOWED + V6_ALLOWED)
def test_public_address_is_allowed_as_literal_and_as_answer(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    POLICY.check_address(parsed, host="host.test")
    url = POLICY.check_url(f"http://{f'[{address}]' if parsed.version == 6 else address}/")
    assert url.address == parsed


def test_an_answer_with_a_zone_is_refused() -> None:
    assert not POLICY.allows_address(ipaddress.ip_address("2606:4700::1111%eth0"))


ODD_SPELLINGS = [
    "127.1", "127.0.1", "0", "0x0", "0x", "017700000001", "2130706433", "0x7f000001", "0X7F.1", "0x7f.1",
    "127.0.0.01", "127.0.0.0x1", "00.0.0.0", "0127.0.0.1", "127.0.0.1.", "127.0.0.1..", "1.1.1.256", "1.1.1",
    "1.1.1.1.1", "4294967295", "4294967296", "99999999999", "08.8.8.8", "8.8.8.08", "0x08080808", "134744072",
    "foo.1", "foo.0x7f", "foo.0x", "1.2.3.4.5.6", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0。1", "１２７.0.0.1",
    "127．0．0．1", "127｡0｡0｡1", "𝟏𝟐𝟕.𝟎.𝟎.𝟏", "٠", "۱۲۷.۰.۰.۱", "१२७.०.०.१", "%31%32%37.0.0.1", "127%2e0.0.1",
    "8.8.8.8.", "①.1.1.1",
]  # fmt: skip


@pytest.mark.parametrize("host", ODD_SPELLINGS)
@pytest.mark.parametrize(
    "policy", [POLICY, EgressPolicy(networks("127.0.0.0/8", "0.0.0.0/0"))], ids=["strict", "lax"]
)
def test_address_in_an_odd_spelling_is_refused_whatever_is_allowed(host: str, policy: EgressPolicy) -> None:
    with pytest.raises(InvalidURL):
        policy.check_url(f"http://{host}/")


FORBIDDEN_NAMES = [
    "localhost", "LOCALHOST", "localhost.", "a.b.localhost", "localhost.localdomain", "ｌｏｃａｌｈｏｓｔ", "ⓛocalhost",
    "local\u00adhost", "loca\u200bl.local", "lOcAlHoSt", "ip6-localhost", "ip6-loopback", "broadcasthost", "metadata",
    "instance-data", "metadata.google.internal", "metadata.google.internal.", "instance-data.ec2.internal",
    "metadata.goog", "metadata.tencentyun.com", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local", "redis", "db", "printer.local", "router.lan", "nas.home", "nas.home.arpa",
    "mail.corp", "intranet", "x.intranet", "x.private", "x.onion", "1.0.0.127.in-addr.arpa", "host.docker.internal",
    "gateway.docker.internal", "com", "x.local。", "x｡local",
]  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN_NAMES)
def test_internal_name_is_refused(host: str) -> None:
    with pytest.raises(InvalidURL):
        POLICY.check_url(f"http://{host}/")


MALFORMED = [
    "", " ", "http", "http:", "http:/", "http://", "http:///", "http://?", "http://#", "http:example.com", "//a.test/",
    "/path", "example.com", "a.test/x.mp3", "https//a.test", "https:/a.test/", "https:a.test", "ht tp://a.test/",
    " http://a.test/", "http://a.test/ ", "http://a.test/a b", "http://a.test/\u00a0", "http://a.test/\u2028",
    "http://a.test/\u3000x", "http://a.test/\x00", "http://a.test/\x7f", "http://a.test/\x85", "\ufeffhttp://a.test/",
    "http://a.test\n/", "http://a.test/\r\nX: y", "http://a\t.test/", "http://a.test/%0d%0aX:y", "http://a.test/%0D",
    "http://a.test/?q=%0a", "http://a.test/%00", "http://a.test\\@b.test/", "http:\\\\a.test\\", "http://a.test/\\x",
    "http://user@a.test/", "http://user:pw@a.test/", "http://@a.test/", "http://:@a.test/", "http://a.test@/",
    "http://a.test:80@127.0.0.1/", "http://127.0.0.1#@a.test/", "http://127.0.0.1?@a.test/", "http://a.test:0/",
    "http://a.test:-80/", "http://a.test:+80/", "http://a.test:80x/", "http://a.test:８０/", "http://a.test:8 0/",
    "http://a.test:65536/", "http://a.test:080000/", "http://a.test:80:80/", "http://a.test:25/", "http://a.test:22/",
    "http://a.test:6379/", "http://[::1/", "http://::1/", "http://[]/", "http://[1.1.1.1]/", "http://[v1.a]/",
    "http://[2606:4700::1111%25eth0]/", "http://[2606:4700::1111%eth0]/", "http://[2606:4700::1111]x/",
    "http://[2606:4700::1111]:x/", "http://x[2606:4700::1111]/", "http://[[2606:4700::1111]]/", "http://.a.test/",
    "http://a..test/", "http://a.test../", "http://-a.test/", "http://a-.test/", "http://a!.test/", "http://a,b.test/",
    "http://a*.test/", "http://(a).test/", "http://a'b.test/", 'http://a"b.test/', "http://a<b>.test/",
    "http://a|b.test/", "http://a^b.test/", "http://a`b.test/", "http://a{b}.test/", "http://$a.test/",
    "http://a&b.test/", "http://a=b.test/", "http://a;b.test/", "http://a~b.test/", "http://a%41.test/",
    "http://%00.test/", "http://" + "a" * 64 + ".test/", "http://" + "a." * 127 + "test/", "http://\ud800.test/",
    "http://a.test/\udfff", "http://xn--\u00fc.test/", "http://\u2100.test/", "http://a\u2044b.test/",
    "http://a\uff0fb.test/", "http://a\uff1fb.test/", "http://a\uff03b.test/", "http://a\uff20b.test/",
    "http://a\u2488com/", "http://a\ufe0f\u20e3.test/x y", "httpſ://a.test/", "http\u017f://a.test/",
    "hTTps\u200b://a.test/", "http://a.test/" + "x" * MAX_URL_CHARACTERS, "http://a.test/" + "ü" * 1000,
    "ftp://a.test/", "file:///etc/passwd", "file://a.test/x", "data:audio/mpeg;base64,AAAA", "blob:http://a.test/x",
    "javascript:alert(1)", "about:blank", "view-source:http://a.test/", "jar:http://a.test!/", "ws://a.test/",
    "wss://a.test/", "http+unix://%2Frun%2Fdocker.sock/", "unix:/run/docker.sock", "dict://127.0.0.1:11211/",
    "ldap://a.test/", "smb://a.test/x", "sftp://a.test/", "tftp://a.test/", "rtmp://a.test/", "rtp://a.test/",
    "tcp://a.test:80", "udp://a.test:80", "hls+http://a.test/", "subfile,,start,0,end,9,,:/etc/passwd", "fd:0",
    "concatf:x", "cache:http://127.0.0.1/", "tee:x", "md5:x", "mmsh://a.test/", "icecast://a.test/", "url:http://a.test/",
    "podcast://a.test/", "HTTP", "http://http://a.test/",
]  # fmt: skip


@pytest.mark.parametrize("url", MALFORMED)
def test_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        POLICY.check_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.test", "http://a.test/"),
        ("HTTP://A.Test/Path", "http://a.test/Path"),
        ("https://a.test./x", "https://a.test/x"),
        ("https://a.test:443/x", "https://a.test/x"),
        ("https://a.test:0443/x", "https://a.test/x"),
        ("http://a.test:443/x", "http://a.test:443/x"),
        ("http://a.test:/x", "http://a.test/x"),
        ("https://a.test?x=1", "https://a.test/?x=1"),
        ("https://a.test/x?y=/../?z#frag?ment", "https://a.test/x?y=/../?z#frag?ment"),
        ("https://a.test/feed#Folge 1ä#2".replace(" ", "%20"), "https://a.test/feed#Folge%201%C3%A4%232"),
        ("https://a.test/feed#", "https://a.test/feed"),
        ("https://a.test/é/%c3%A9?ü", "https://a.test/%C3%A9/%c3%A9?%C3%BC"),
        ('https://a.test/"<>`{|}^', "https://a.test/%22%3C%3E%60%7B%7C%7D%5E"),
        ("https://a.test/100%.mp3", "https://a.test/100%.mp3"),
        ("https://a.test/redirect.mp3/http://b.test/x", "https://a.test/redirect.mp3/http://b.test/x"),
        ("https://a.test/user@host", "https://a.test/user@host"),
        ("https://bücher.test/", "https://xn--bcher-kva.test/"),
        ("https://ＥＸＡＭＰＬＥ.test/", "https://example.test/"),
        ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://xn--i-7iq.test/", "https://xn--i-7iq.test/"),
        ("https://a_b.test/", "https://a_b.test/"),
        ("https://_a.1b.test/", "https://_a.1b.test/"),
        ("https://r3---sn-4g5e6nzz.video.test/", "https://r3---sn-4g5e6nzz.video.test/"),
        ("https://localhost.test/", "https://localhost.test/"),
        ("https://mylocal.test/", "https://mylocal.test/"),
        ("https://internal.test/", "https://internal.test/"),
        ("http://8.8.8.8/x", "http://8.8.8.8/x"),
        ("http://[2606:4700:0:0::1111]:80/x", "http://[2606:4700::1111]/x"),
    ],
)
def test_public_url_is_brought_into_one_form(url: str, expected: str) -> None:
    assert str(POLICY.check_url(url)) == expected


def test_the_normal_form_is_stable() -> None:
    url = POLICY.check_url("https://Bücher.test:443/ä?b=%C3#x")
    assert POLICY.check_url(str(url)) == url


def test_fragment_is_kept_for_discovery_and_not_requested() -> None:
    url = POLICY.check_url("https://a.test/feed.xml#episode-7")
    assert (url.target, url.fragment) == ("/feed.xml", "episode-7")
    assert str(url.for_request()) == "https://a.test/feed.xml"


def test_every_port_passes_where_the_list_is_open() -> None:
    assert POLICY.check_url("https://a.test:80/").port == 80
    assert EgressPolicy(ports=None).check_url("http://a.test:8000/").port == 8000
    assert EgressPolicy(ports=frozenset({8080})).check_url("http://a.test:8080/").authority == "a.test:8080"
    with pytest.raises(InvalidURL, match=r"Port 443 is not allowed\. .* ports: 8080\."):
        EgressPolicy(ports=frozenset({8080})).check_url("https://a.test/")


def test_allowed_networks_open_their_addresses_and_no_others() -> None:
    policy = EgressPolicy(networks("127.0.0.0/8"))
    for url in ("http://127.0.0.1/", "http://127.9.9.9/", "http://localhost/", "http://x.localhost/"):
        assert policy.check_url(url).host
    for url in ("http://10.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://[::ffff:127.0.0.1]/"):
        with pytest.raises(InvalidURL):
            policy.check_url(url)
    for url in (
        "http://metadata/",
        "http://printer.local/",
        "http://redis/",
        "http://kubernetes.default.svc/",
    ):
        with pytest.raises(InvalidURL):
            policy.check_url(url)


def test_internal_names_pass_where_a_private_network_is_allowed_and_localhost_does_not() -> None:
    policy = EgressPolicy(networks("10.0.0.0/8"))
    assert policy.check_url("http://minio/x").host == "minio"
    assert policy.check_url("http://minio.storage.svc/x").host == "minio.storage.svc"
    assert policy.check_url("http://10.1.2.3/").host == "10.1.2.3"
    with pytest.raises(InvalidURL):
        policy.check_url("http://localhost/")


def test_allowed_translation_block_is_checked_by_the_address_behind_it() -> None:
    policy = EgressPolicy(networks("64:ff9b::/96", "2002::/16", "::/96", "2001::/32"))
    assert policy.allows_address(ipaddress.ip_address("64:ff9b::8.8.8.8"))
    assert policy.allows_address(ipaddress.ip_address("2002:808:808::1"))
    for text in ("64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::127.0.0.1"):
        assert not policy.allows_address(ipaddress.ip_address(text))
    # 80ff:fffe is 127.0.0.1 with every bit turned, as Teredo writes its clients.
    assert not policy.allows_address(ipaddress.ip_address("2001:0:4136:e378:8000:63bf:80ff:fffe"))
    assert policy.allows_address(ipaddress.ip_address("::1"))


def test_messages_say_what_is_wrong_and_what_to_send() -> None:
    def message(url: str) -> str:
        with pytest.raises(InvalidURL) as caught:
            POLICY.check_url(url)
        return caught.value.message

    assert message("ftp://a.test/") == (
        "The URL does not start with http:// or https://. Send a web address such as https://…"
    )
    assert message("http://u:p@a.test/") == (
        "The URL contains a user name or password. Send a URL that opens without login."
    )
    assert message("http://localhost/") == (
        'The host name "localhost" is not public. Send one that anyone on the internet can open.'
    )
    assert message("http://a.test:22/") == (
        "Port 22 is not allowed. Send a URL that is served on one of these ports: 80, 443, 8000, 8080, 8443."
    )


@given(st.text())
@example("http://" + "[" * 100)
@example("http://" + "ü" * 4000)
@example("http://" + "\u0345" * 2000 + "/")
@example("http://xn--" + "9" * 59 + ".test/")
def test_no_text_makes_the_check_raise_anything_but_invalid_url(text: str) -> None:
    for candidate in (
        text,
        f"http://{text}",
        f"https://{text}/",
        f"http://a.test/{text}",
        f"http://a.test:{text}",
    ):
        try:
            url = POLICY.check_url(candidate)
        except InvalidURL:
            continue
        assert str(url).isascii()
        assert POLICY.check_url(str(url)) == url


@given(st.ip_addresses())
def test_literal_and_resolved_address_are_checked_alike(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    try:
        POLICY.check_url(f"http://{host}/")
    except InvalidURL:
        assert not POLICY.allows_address(address)
    else:
        assert POLICY.allows_address(address)


TRICKS = [
    "127", "0x7f", "0177", "0", "1", "8", ".", ".", "。", "①", "x", "-", "localhost", "@", ":80", "[::1]", "%2e", "/",
]  # fmt: skip


@settings(max_examples=500)
@given(
    st.lists(
        st.sampled_from(TRICKS),
        max_size=8,
    ).map("".join)
)
def test_no_combination_of_known_tricks_reaches_an_internal_address(host: str) -> None:
    try:
        url = POLICY.check_url(f"http://{host}/")
    except InvalidURL:
        return
    assert url.address is None or POLICY.allows_address(url.address)
    assert url.host.rpartition(".")[2] != "localhost"
    try:
        read = socket.getaddrinfo(url.host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        assert url.address is None
    else:
        assert {row[4][0] for row in read} == {str(url.address)}
    assert not url.host.rpartition(".")[2].isdigit() or url.address is not None
