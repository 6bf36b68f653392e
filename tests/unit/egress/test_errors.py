from __future__ import annotations

import errno
import socket
import ssl

import httpcore
import pytest

from stenobird.egress.transport import translate, translated
from stenobird.errors import ConnectFailed, DestinationForbidden, EgressError, ResponseBroken

VENDOR_ERRORS = sorted(
    (value for value in vars(httpcore).values() if isinstance(value, type) and issubclass(value, Exception)),
    key=lambda kind: kind.__name__,
)


def test_the_vendor_still_has_the_errors_that_are_known() -> None:
    assert [kind.__name__ for kind in VENDOR_ERRORS] == [
        "ConnectError",
        "ConnectTimeout",
        "ConnectionNotAvailable",
        "LocalProtocolError",
        "NetworkError",
        "PoolTimeout",
        "ProtocolError",
        "ProxyError",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "TimeoutException",
        "UnsupportedProtocol",
        "WriteError",
        "WriteTimeout",
    ]


@pytest.mark.parametrize("kind", VENDOR_ERRORS)
def test_every_vendor_error_is_translated(kind: type[Exception]) -> None:
    meaning = translate(kind("detail of the vendor"), "cdn.test")
    assert isinstance(meaning, EgressError)
    assert "detail of the vendor" not in meaning.message


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (ssl.SSLError("handshake"), ConnectFailed),
        (ssl.SSLEOFError("eof"), ConnectFailed),
        (socket.gaierror(socket.EAI_FAIL, "dns"), ResponseBroken),
        (ConnectionResetError(errno.ECONNRESET, "reset"), ResponseBroken),
        (BrokenPipeError(errno.EPIPE, "pipe"), ResponseBroken),
        (TimeoutError(), ResponseBroken),
        (httpcore.ConnectError(ssl.SSLError("alert")), ConnectFailed),
    ],
)
def test_system_errors_are_translated(exc: Exception, kind: type[EgressError]) -> None:
    meaning = translate(exc, "cdn.test")
    assert type(meaning) is kind
    assert meaning.message.startswith("cdn.test ")


def test_egress_errors_and_bugs_pass_unchanged() -> None:
    ours = DestinationForbidden("no")
    with pytest.raises(DestinationForbidden) as caught, translated("cdn.test"):
        raise ours
    assert caught.value is ours
    with pytest.raises(ZeroDivisionError), translated("cdn.test"):
        raise ZeroDivisionError


def test_translation_keeps_the_cause() -> None:
    cause = httpcore.ReadError("reset")
    with pytest.raises(ResponseBroken) as caught, translated("cdn.test"):
        raise cause
    assert caught.value.__cause__ is cause
