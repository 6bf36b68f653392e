"""nginx and Caddy on loopback with TLS, from the configuration that a guide shows."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

from tests.support.free_port import accepts_connections
from tests.support.processes import ENDING_WITH_PARENT
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = "stenobird.example.com"
UPSTREAM = "127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class ReverseProxy:
    """A proxy that runs: its address, and the certificate authority that vouches for it."""

    url: str
    authority: Path


def nginx_path() -> str | None:
    """Return where nginx is, if it is installed; Debian keeps it out of a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def caddy_path() -> str | None:
    """Return where Caddy is, if it is installed."""
    return shutil.which("caddy")


@contextlib.contextmanager
def running_nginx(configuration: str, folder: Path, *, port: int, upstream: str) -> Iterator[ReverseProxy]:
    """Run nginx with a server block for `NAME`, in front of `upstream` (host:port)."""
    certificate = _certificate(folder)
    server = re.sub(r"ssl_certificate( +).*;", rf"ssl_certificate\1{certificate.chain};", configuration)
    server = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {certificate.key};", server)
    server = server.replace("listen 443 ", f"listen 127.0.0.1:{port} ").replace(UPSTREAM, upstream)
    paths = "\n".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"pid {folder / 'nginx.pid'};\ndaemon off;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}\n{server}}}\n"
    )
    command = [nginx_path() or "nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"]
    with _running(command, folder, port):
        yield ReverseProxy(f"https://127.0.0.1:{port}", certificate.authority)


@contextlib.contextmanager
def running_caddy(configuration: str, folder: Path, *, port: int, upstream: str) -> Iterator[ReverseProxy]:
    """Run Caddy with a site for `NAME`, in front of `upstream` (host:port)."""
    certificate = _certificate(folder)
    site = f"https://127.0.0.1:{port} {{\n    bind 127.0.0.1\n    tls {certificate.chain} {certificate.key}"
    file = folder / "Caddyfile"
    file.write_text(
        "{\n    admin off\n    auto_https disable_redirects\n}\n"
        + configuration.replace(f"{NAME} {{", site).replace(UPSTREAM, upstream)
    )
    command = [caddy_path() or "caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
    with _running(command, folder, port):
        yield ReverseProxy(f"https://127.0.0.1:{port}", certificate.authority)


@dataclass(frozen=True, slots=True)
class _Certificate:
    authority: Path
    chain: Path
    key: Path


def _certificate(folder: Path) -> _Certificate:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    found = _Certificate(folder / "authority.pem", folder / "chain.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(found.authority)
    for part in issued.cert_chain_pems:
        part.write_to_path(found.chain, append=True)
    issued.private_key_pem.write_to_path(found.key)
    return found


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*ENDING_WITH_PARENT, *command],
            cwd=folder,
            # Caddy keeps what it stores below the last three.
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "XDG_DATA_HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: accepts_connections(port) or process.poll() is not None)
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
