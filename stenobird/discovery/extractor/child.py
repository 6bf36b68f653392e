"""The child that runs yt-dlp: one request as a line of JSON on stdin, one answer on stdout, then it ends.

It is started as an isolated file (`python -I -B …/child.py`); the service never imports it. yt-dlp is
trusted, but the pages that it reads are not. Before loading it, the process therefore gives up what it does
not need:

* memory, CPU time and open files are limited, files can't be written, new privileges can't be gained, and the
  process ends with its parent
* it can't make a socket: the parent sends it each connection to the proxy, requested with an empty line
* no file outside the Python installation and the system's libraries can be opened (where there is Landlock)
* an audit hook, which can't be removed, refuses connections to anything but the proxy, name look-ups, other
  programs, and files outside the Python installation

yt-dlp itself runs without cookies, configuration, plugins, cache, downloads and its generic extractor.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import mimetypes
import os
import re
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stenobird.children.confine import allow_only, confine, landlock, limit

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REQUEST_BYTES = 64 * 1024
_MAX_FORMATS = 500
_MAX_URL_CHARACTERS = 8192
_MAX_TEXT_CHARACTERS = 500

_INFO_FIELDS = (
    "title", "series", "uploader", "upload_date", "extractor_key", "live_status", "is_live", "duration",
    "timestamp",
)  # fmt: skip
_FORMAT_FIELDS = (
    "format_id", "format_note", "protocol", "ext", "acodec", "vcodec", "abr", "tbr", "language_preference",
    "preference",
)  # fmt: skip
_LOGIN = re.compile(
    r"log ?in|sign in|account|cookies|private|password|members?[- ]only|premium|subscri|paywall|purchase",
    re.IGNORECASE,
)
_LIVE = re.compile(
    r"\blive\b.*\b(event|stream|begin|start)|not started|offline|premieres? in|is upcoming",
    re.IGNORECASE,
)
_REFUSED = frozenset({
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "pty.spawn", "os.kill", "os.killpg", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link",
    "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move",
    "shutil.copyfile", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.gethostbyname",
    "socket.gethostbyaddr", "socket.getnameinfo", "sqlite3.connect", "ctypes.dlopen",
})  # fmt: skip
"""Audit events (see the table in the Python manual) that extraction does not need."""

_SYSTEM_FILES = ("/usr", "/lib", "/lib64", "/etc/ssl", "/etc/pki", "/etc/localtime")
"""For shared libraries, certificates and time zones; native code opens them, which the guard does not see."""

_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_DIRECTORY", 0)


def main() -> None:
    """Serve the one request."""
    confine(int(sys.argv[-1]))
    request = json.loads(sys.stdin.buffer.readline(_MAX_REQUEST_BYTES))
    limit(**request["limits"])
    mimetypes.init()  # reads /etc/mime.types, which the guard would refuse later
    landlock((*_roots(request["readable"]), *_SYSTEM_FILES))
    socket.socket = _ProxySocket  # type: ignore[misc]
    allow_only("extractor")
    sys.addaudithook(_Guard(request["proxy"], request["readable"]))
    answer = _answer(request)
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=True).encode())
    sys.stdout.buffer.flush()
    # Extractors may have left threads behind, which must not delay the end.
    os._exit(0)


class _ProxySocket(socket.socket):
    """A connection to the proxy, which the parent has made; `connect` finds it connected."""

    _turn = threading.Lock()

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002  # the base's name
        proto: int = -1,
        fileno: int | None = None,
    ) -> None:
        if fileno is None:
            if family not in {-1, socket.AF_INET}:
                _refuse("use other sockets than its proxy's")
            with self._turn:
                parent = _ProxySocket(fileno=sys.stdin.fileno())
                try:
                    parent.sendall(b"\n")
                    _, received, _, _ = socket.recv_fds(parent, 1, 1)
                finally:
                    parent.detach()
            if not received:
                raise ConnectionRefusedError("the proxy can't be reached")
            fileno = received[0]
        super().__init__(family, type, proto, fileno)

    def connect(self, address: Any) -> None:
        sys.audit("socket.connect", self, address)

    def connect_ex(self, address: Any) -> int:
        self.connect(address)
        return 0


class _Guard:
    """Checks audit events. A refusal is a `PermissionError`, which yt-dlp handles like one of the system."""

    def __init__(self, proxy: str, readable: list[str]) -> None:
        parts = urlsplit(proxy)
        self._proxy = (parts.hostname, parts.port)
        self._roots = _roots(readable)
        self._checks: dict[str, Callable[..., None]] = {
            "open": self._open,
            "os.listdir": self._list,
            "os.scandir": self._list,
            "socket.connect": self._connect,
            "socket.getaddrinfo": self._resolve,
        }

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if (check := self._checks.get(event)) is not None:
            check(*args)
        elif event in _REFUSED:
            _refuse(f"use {event}")

    def _open(self, path: Any, _mode: Any, flags: Any) -> None:
        if isinstance(path, int):
            return  # an open descriptor
        if isinstance(flags, int) and flags & ~_READ_ONLY:
            _refuse("write files")
        if not os.path.realpath(os.fsdecode(path)).startswith(self._roots):
            _refuse("read files outside the Python installation")

    def _list(self, path: Any = None, *_rest: Any) -> None:
        if not f"{os.path.realpath(os.fsdecode(path or '.'))}/".startswith(self._roots):
            _refuse("list folders outside the Python installation")

    def _connect(self, _socket: Any, address: Any) -> None:
        if address[:2] != self._proxy:
            _refuse("connect to anything but its proxy")

    def _resolve(self, host: Any, *_rest: Any) -> None:
        if host != self._proxy[0]:
            _refuse("look up names")


def _refuse(what: str) -> None:
    raise PermissionError(f"extraction may not {what}")


def _roots(readable: list[str]) -> tuple[str, ...]:
    # Not all of `sys.path`: an editable install adds its whole checkout, with files other than code.
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    spec = importlib.util.find_spec("yt_dlp")
    if spec is not None and spec.origin:
        folders.add(str(Path(spec.origin).parent))
    files = ("/dev/null", "/dev/urandom", *readable)
    return (
        *(f"{os.path.realpath(path)}/" for path in folders),
        *(os.path.realpath(path) for path in files),
    )


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        from yt_dlp import YoutubeDL  # type: ignore[import-untyped]  # noqa: PLC0415  # loaded only when confined
    except Exception as error:  # noqa: BLE001  # a broken installation can raise anything
        return {"outcome": "missing", "detail": _short(f"{type(error).__name__}: {error}")}
    try:
        url = next((url for url in request["urls"] if _is_known(url)), None)
        if url is None:
            return {"outcome": "unsuitable"}
        with YoutubeDL(_parameters(request)) as downloader:
            return _extract(downloader, url)
    except Exception as error:  # noqa: BLE001  # whatever an extractor raises is one answer: it failed
        return _failure(error)


def _parameters(request: dict[str, Any]) -> dict[str, Any]:
    logger = logging.getLogger("yt_dlp")
    logger.disabled = True  # errors arrive as exceptions
    return {
        "logger": logger,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "proxy": request["proxy"],
        "socket_timeout": request["socket_timeout_seconds"],
        "retries": 1,
        "extractor_retries": 1,
        "allowed_extractors": ["default", "-generic"],
        "cachedir": False,
        "cookiefile": None,
        "usenetrc": False,
        "enable_file_urls": False,
        "geo_bypass": False,
        "js_runtimes": {},
        "plugin_dirs": [],
        "compat_opts": {"no-certifi"} if request["readable"] else set(),  # it is a file of authorities
        "skip_download": True,
        "noplaylist": True,
        "playlist_items": "1:2",
        "extract_flat": "in_playlist",
        "check_formats": False,
        "format": "bestaudio/best/bestvideo",  # the service chooses; this must only match something
    }


def _is_known(url: str) -> bool:
    from yt_dlp.extractor import gen_extractor_classes  # type: ignore[import-untyped]  # noqa: PLC0415  # loaded only when confined

    return any(
        extractor.suitable(url) and extractor.ie_key() != "Generic" and extractor._ENABLED is not False  # noqa: SLF001
        for extractor in gen_extractor_classes()
    )


def _extract(downloader: Any, url: str) -> dict[str, Any]:
    info = downloader.extract_info(url, download=False)
    if info and info.get("_type") in {"playlist", "multi_video"}:
        entries = [entry for entry in info.get("entries") or () if entry]
        if len(entries) != 1:
            return {
                "outcome": "several" if entries else "empty",
                "extractor": _short(info.get("extractor_key")),
            }
        info = entries[0]
        if info.get("_type") in {"url", "url_transparent"}:
            info = downloader.extract_info(info["url"], download=False, ie_key=info.get("ie_key"))
    if not info or info.get("_type") in {"playlist", "multi_video", "url", "url_transparent"}:
        return {"outcome": "several"}
    return {"outcome": "found", "info": _reduced(info)}


def _reduced(info: dict[str, Any]) -> dict[str, Any]:
    """Return the few fields that the service reads and validates; `info` itself may be the only format."""
    formats = [_format(form) for form in info.get("formats") or [info] if _is_usable(form)]
    fields = _plain(info, _INFO_FIELDS)
    return fields | {"has_drm": bool(info.get("_has_drm")), "formats": formats[-_MAX_FORMATS:]}


def _is_usable(form: dict[str, Any]) -> bool:
    url = form.get("url")
    return isinstance(url, str) and len(url) <= _MAX_URL_CHARACTERS and not form.get("fragments")


def _format(form: dict[str, Any]) -> dict[str, Any]:
    # A format whose encryption is "maybe" counts as encrypted.
    headers = _plain(form.get("http_headers") or {}, ("Referer", "User-Agent", "Origin"))
    fields = _plain(form, _FORMAT_FIELDS)
    return fields | {"url": form["url"], "has_drm": bool(form.get("has_drm")), "headers": headers}


def _plain(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, str | float]:
    """Return those of the named fields that are numbers or texts, which are cut."""
    values = {name: fields[name] for name in names if isinstance(fields.get(name), str | int | float)}
    return {name: _short(value) if isinstance(value, str) else value for name, value in values.items()}


def _failure(error: BaseException) -> dict[str, Any]:
    """Classify a failure: the site refuses, or the extractor can't read the site any more."""
    from yt_dlp.networking.exceptions import HTTPError, RequestError  # type: ignore[import-untyped]  # noqa: PLC0415
    from yt_dlp.utils import (  # type: ignore[import-untyped]  # noqa: PLC0415
        ExtractorError,
        GeoRestrictedError,
        UnsupportedError,
        UserNotLive,
    )

    chain = _chain(error)

    def first(*kinds: type[BaseException]) -> Any:
        return next((link for link in chain if isinstance(link, kinds)), None)

    reported = first(ExtractorError)
    text = re.sub(r"\x1b\[[\d;]*m", "", str(getattr(reported, "orig_msg", None) or reported or chain[-1]))
    if first(UnsupportedError):
        outcome = "unsuitable"
    elif first(GeoRestrictedError):
        outcome = "restricted"
    elif first(UserNotLive):
        outcome = "live"
    elif (answered := first(HTTPError)) is not None:
        outcome = "gone" if answered.status in {404, 410} else "unreachable"
    elif first(RequestError, OSError):
        outcome = "unreachable"
    elif reported is not None and reported.expected:
        outcome = _refusal(text)
    else:
        outcome = "broken"
    return {"outcome": outcome, "detail": _short(text), "extractor": _short(getattr(reported, "ie", None))}


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and all its causes; yt-dlp keeps some in attributes of its own."""
    chain: list[BaseException] = []
    queue: list[Any] = [error]
    while queue and len(chain) < 32:
        link = queue.pop(0)
        if not isinstance(link, BaseException) or link in chain:
            continue
        chain.append(link)
        queue += [link.__cause__, link.__context__, getattr(link, "cause", None)]
        queue += list(getattr(link, "exc_info", None) or ())
    return chain


def _refusal(text: str) -> str:
    if re.search(r"\bDRM\b", text):
        return "drm"
    if _LIVE.search(text):
        return "live"
    return "login" if _LOGIN.search(text) else "refused"


def _short(text: object) -> str:
    return str(text or "")[:_MAX_TEXT_CHARACTERS]


if __name__ == "__main__":
    main()
