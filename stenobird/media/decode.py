"""The service's side of a decoder child: starts it, sends it bytes, watches it, and checks all that it sends.

    MediaStream ──pull──► decode ◄──socket pair──► decoder_child (fd 0, fd 1)
                            │ R offset, size
                            ▼
                     Intake (recordings), Feed (live audio)

One socket carries everything, and it is read only when the stream's reader wants more: a slow reader fills
the socket's buffers (a few seconds of PCM), then the child waits. The child is killed when it sends nothing
for `stall_seconds` although it has all the bytes that it has requested.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as message

from stenobird.children.process import ChildProcess
from stenobird.errors import SEND_AUDIO, AudioContentTypeNotSupported, WorkerTrouble
from stenobird.media.decoder_child import HEADER, POSITION, READ_REPLY, READ_REQUEST, SIZE_REPLY
from stenobird.media.recognition import Refusal
from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from stenobird.ports import PCM

_COMMAND = ("-I", "-c", "from stenobird.media.decoder_child import main; main()")
# Not `-m`: a main module is compiled anew at each start.
_PASSED_ON = ("LD_LIBRARY_PATH", "SYSTEMROOT")
_MAX_PAYLOAD_BYTES = 2 * SAMPLE_RATE + POSITION.size
_MAX_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What one decoder child may use. `memory_bytes` comes on top of its libraries' address space."""

    memory_bytes: int = 256 * 1024**2
    cpu_seconds: int = 1800
    stall_seconds: float = 30.0


async def start_decoder(
    limits: DecoderLimits, job: Mapping[str, Any] | None = None, path: Path | None = None
) -> ChildProcess:
    """Start a child for the job; without one, it gets ready and waits for the job on its socket.

    With `path`, it reads that file in place; else it asks for bytes on the socket. Raises `OSError`.
    """
    options = {"memory_bytes": limits.memory_bytes, "cpu_seconds": limits.cpu_seconds, **(job or {})}
    with contextlib.nullcontext() if path is None else path.open("rb") as file:
        return await ChildProcess.start(
            [sys.executable, *_COMMAND, json.dumps(options)],
            environment={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            cwd="/",
            stdin=file,
        )


class DecoderInput(Protocol):
    """The bytes of a decoder."""

    stitched: bool
    """Whether they were joined from parts, whose timestamps may jump from one to the next."""

    @property
    def total_bytes(self) -> int | None:
        """Their number, as soon as it is known."""

    @property
    def front(self) -> int:
        """How many bytes from the start are there without a gap."""

    def complete_path(self) -> Path | None:
        """Return the file that has them all, if there is one."""

    async def read(self, offset: int, size: int) -> bytes:
        """Return at least one byte, waiting for it; nothing at the end. May raise a `JobError`."""


_STRICT = ConfigDict(extra="forbid", strict=True)


@message(frozen=True, slots=True, config=_STRICT)
class Found:
    """The child has opened the file. `duration_seconds` is what the file states, true or not."""

    duration_seconds: float | None
    duration_exact: bool


@dataclass(frozen=True, slots=True)
class Block:
    """At most a second of audio; `position` is the highest byte offset that went into it."""

    pcm: PCM
    position: int


@message(frozen=True, slots=True, config=_STRICT)
class Ended:
    """The audio has ended, or `stop` is reached. `samples` counts from the start of the audio."""

    samples: int
    corrupt_packets: int
    cut_off: bool
    note: str | None


@message(frozen=True, slots=True, config=_STRICT)
class _Refused:
    """Nothing can be decoded; see `Refusal`."""

    kind: str
    message: str


class DecoderDied(Exception):  # an outcome, handled by MediaStream
    """The child ended before its last message, hung and was killed, or sent what no healthy child sends."""


async def take_decoder(
    intake: DecoderInput,
    limits: DecoderLimits,
    spare: SpareDecoder | None,
    *,
    skip: int,
    stop: int | None,
    most: int,
    block: int = SAMPLE_RATE,
) -> ChildProcess:
    """Return a child that decodes samples `skip` to `stop`, in blocks; it refuses audio of more than `most`.

    It is the `spare` one, if there is one that can be used. A file that is complete on disk is read in place,
    by a child of its own. Raises `WorkerTrouble`.
    """
    job = {"skip": skip, "stop": stop, "most": most, "block": block, "stitched": intake.stitched}
    path = intake.complete_path()
    child = spare.take() if path is None and spare is not None else None
    if child is None:
        try:
            return await start_decoder(limits, job, path)
        except OSError as exc:
            raise WorkerTrouble(f"The audio decoder can't be started ({exc.strerror}).") from exc
    data = json.dumps(job).encode()
    child.writer.write(READ_REPLY.pack(len(data)) + data)  # if it has died meanwhile, `decode` notices
    return child


async def decode(
    child: ChildProcess, intake: DecoderInput, stall_seconds: float
) -> AsyncGenerator[Found | Block | Ended | None]:
    """Yield what the child sends, answering its requests on the way; `None` only shows that it works.

    Ends after `Ended`. Raises `Refusal` where nothing can be decoded, `DecoderDied`, and the errors of the
    intake.
    """
    while True:
        kind, payload = await _receive(child, stall_seconds)
        if kind == b"R":
            offset, size = READ_REQUEST.unpack(payload)
            data = await intake.read(offset, min(size, _MAX_READ_BYTES))
            await _reply(child, READ_REPLY.pack(len(data)) + data, stall_seconds)
        elif kind == b"S":
            size_bytes = await _size(intake, wait=payload != b"\x00")
            await _reply(child, SIZE_REPLY.pack(size_bytes), stall_seconds)
        elif kind == b"P":
            (position,) = POSITION.unpack_from(payload)
            yield Block(np.frombuffer(payload, np.dtype("<i2"), offset=POSITION.size), position)
        elif kind == b"H":
            yield None
        else:
            try:
                said = _JSON[kind].validate_json(payload)
            except ValidationError as exc:
                raise DecoderDied("it broke the protocol") from exc
            if isinstance(said, _Refused):
                raise Refusal(said.kind, said.message)
            yield said
            if isinstance(said, Ended):
                return


def refused(refusal: Refusal, sent: str) -> AudioContentTypeNotSupported | WorkerTrouble | None:
    """Return the error for what was `sent` if it is no audio, or if this machine can't decode at all."""
    if refusal.kind in {"not_media", "no_audio"}:
        return AudioContentTypeNotSupported(
            f"{sent} is not audio that can be decoded: {refusal}. {SEND_AUDIO}"
        )
    if refusal.kind == "environment":
        return WorkerTrouble(
            f"The server's audio decoder does not start: {refusal}. "
            'Tell the operator, who can run "stenobird doctor".'
        )
    return None


async def _receive(child: ChildProcess, stall_seconds: float) -> tuple[bytes, bytes]:
    try:
        async with asyncio.timeout(stall_seconds):
            kind, length = HEADER.unpack(await child.reader.readexactly(HEADER.size))
            if kind not in _PAYLOADS or length not in _PAYLOADS[kind]:
                raise DecoderDied("it broke the protocol")
            payload = await child.reader.readexactly(length)
    except TimeoutError as exc:
        raise DecoderDied(f"it made no progress for {stall_seconds:g} s") from exc
    except (asyncio.IncompleteReadError, OSError) as exc:
        raise DecoderDied("it ended too early") from exc
    return kind, payload


async def _reply(child: ChildProcess, data: bytes, stall_seconds: float) -> None:
    try:
        child.writer.write(data)
        async with asyncio.timeout(stall_seconds):
            await child.writer.drain()
    except (OSError, TimeoutError) as exc:
        raise DecoderDied("it no longer reads") from exc


async def _size(intake: DecoderInput, *, wait: bool) -> int:
    """Return the length of the file, -1 if it is not known."""
    while wait and intake.total_bytes is None:
        # Reading at the front waits for the next bytes, so this loop moves at the pace of the download.
        if not await intake.read(intake.front, 1):
            break
    return -1 if intake.total_bytes is None else intake.total_bytes


class SpareDecoder:
    """At most one decoder that has loaded its libraries and waits for a job: 0.1 s less to the first word.

    Use it as a context manager; leaving it ends the child. Like any other, the child serves one job.
    """

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        self._tasks: asyncio.TaskGroup | None = None
        self._refilling: asyncio.Task[None] | None = None
        self.child: ChildProcess | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self.refill_soon()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                await tasks.__aexit__(None, None, None)
        finally:
            if self.child is not None:
                await self.child.aclose()

    def take(self) -> ChildProcess | None:
        """Return the child, which the caller then owns; `None` if there is none or it has died."""
        if not self.ready:
            return None
        child, self.child = self.child, None
        return child

    @property
    def ready(self) -> bool:
        """Whether there is a child, and it lives."""
        return self.child is not None and self.child.returncode is None

    def refill_soon(self) -> None:
        """Start a child if there is none; returns at once, fine at any time."""
        refilling = self._refilling is not None and not self._refilling.done()
        if self._tasks is not None and not self.ready and not refilling:
            self._refilling = self._tasks.create_task(self._refill(), name="spare decoder")

    async def _refill(self) -> None:
        if self.child is not None:  # it has died
            await self.child.aclose()
        # Where no process can be started, the next job fails with that error itself.
        with contextlib.suppress(OSError):
            self.child = await start_decoder(self._limits)


_JSON: dict[bytes, TypeAdapter[Any]] = {
    b"I": TypeAdapter(Found),
    b"E": TypeAdapter(Ended),
    b"X": TypeAdapter(_Refused),
}
_JSON_BYTES = range(2, 16 * 1024)
_PAYLOADS = {
    b"R": range(READ_REQUEST.size, READ_REQUEST.size + 1),
    b"S": range(1, 2),
    b"P": range(POSITION.size + 2, _MAX_PAYLOAD_BYTES + 1, 2),
    b"H": range(POSITION.size, POSITION.size + 1),
    **dict.fromkeys(_JSON, _JSON_BYTES),
}
