"""`ports.AudioOpener`: from a source to PCM, through broken connections and dead decoders."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from stenobird.egress.client import EgressClient
from stenobird.errors import (
    AudioTooLarge,
    EgressError,
    JobError,
    TranscriptionFailed,
    UnsupportedURL,
    WorkerTrouble,
)
from stenobird.media.decode import (
    Block,
    DecoderDied,
    DecoderLimits,
    Ended,
    Found,
    SpareDecoder,
    decode,
    refused,
    take_decoder,
)
from stenobird.media.fetch import Download
from stenobird.media.hls import Fetcher, PlaylistIntake, resolve_playlist
from stenobird.media.intake import WITH_AUDIO, HTTPOrigin, MediaFingerprint, verify_fingerprint
from stenobird.media.live import LiveStream
from stenobird.media.live_hls import LivePlaylist
from stenobird.media.pipes import is_cut_off
from stenobird.media.placement import SteadyClock
from stenobird.media.recognition import Refusal
from stenobird.media.station import Replayed, Station, is_station, plays_in_real_time
from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from stenobird.children.process import ChildProcess
    from stenobird.config import Settings
    from stenobird.egress.policy import EgressPolicy
    from stenobird.media.intake import Intake
    from stenobird.media.live import LiveOrigin
    from stenobird.media.playlist import MediaPlaylist
    from stenobird.media.spool import Spool, SpoolFolder
    from stenobird.ports import PCM, AudioRequest, AudioStream, Clock, MediaOrigin, OpenedMedia

_log = structlog.get_logger(__name__)

MAX_DEATHS_WITHOUT_PROGRESS = 2
MAX_DEATHS = 100


class MediaOpener:
    """Implements `ports.AudioOpener` on a guarded HTTP client, a spool folder and decoder children.

    `origins` adds URL schemes of our own (uploads) to http and https. A download may take `download_seconds`
    in all; what is on disk by then is transcribed. `spare`, if there is one, is a decoder for the next job.
    """

    def __init__(
        self,
        client: EgressClient,
        spools: SpoolFolder,
        clock: Clock,
        *,
        origins: Mapping[str, MediaOrigin] = MappingProxyType({}),
        decoder: DecoderLimits | None = None,
        download_seconds: float = 12 * 3600.0,
        spare: SpareDecoder | None = None,
    ) -> None:
        self._spools = spools
        self._clock = clock
        self._client = client
        http = HTTPOrigin(client)
        self._origins: dict[str, MediaOrigin] = {"http": http, "https": http, **origins}
        self._decoder = decoder or DecoderLimits()
        self._seconds = download_seconds
        self.spare = spare
        self.discard, self.held = spools.discard, spools.held

    @asynccontextmanager
    async def open(self, request: AudioRequest) -> AsyncGenerator[AudioStream]:
        """Return the stream; see `ports.AudioOpener.open`. Takes over `request.opened`."""
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            if request.opened is not None:
                stack.push_async_callback(request.opened.aclose)
            clock = SteadyClock(self._clock)
            playlist, url = await self._playlist(request)
            if playlist is not None:
                origin = self._live_playlist(request, clock, playlist, url)
            else:
                origin, request = await self._station(request, stack)
            stream: LiveStream | MediaStream
            if origin is not None:
                stream = LiveStream(request, origin, clock, self._decoder, self.spare)
                work = {"live": stream.run()}
            else:
                spool = await self._spools.open(request.job_id, durable=request.limits.stop_samples is None)
                stack.push_async_callback(spool.aclose)
                intake = await self._open_intake(request, spool, playlist)
                stack.push_async_callback(intake.aclose)
                fingerprint = MediaFingerprint(spool)
                stream = MediaStream(request, intake, fingerprint, self._decoder, self.spare)
                work = {"download": intake.run(), "hash": fingerprint.follow()}
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = [
                tasks.create_task(step, name=f"{name} {request.job_id}") for name, step in work.items()
            ]
            try:
                yield stream
            except Exception as exc:  # noqa: BLE001  # raised again below: a task group would wrap it
                failure = exc
            finally:
                await stream.aclose()
                for task in running:
                    task.cancel()
                if self.spare is not None:
                    self.spare.refill_soon()
        if failure is not None:
            raise failure

    async def _playlist(self, request: AudioRequest) -> tuple[MediaPlaylist | None, str]:
        """Return the playlist of HLS, and its URL. Raises `JobError`."""
        url = request.source.media_url
        if request.source.kind != "hls":
            return None, url
        if request.opened is not None:
            await request.opened.aclose()
        return await resolve_playlist(Fetcher(self._client, request.source), url)

    def _live_playlist(
        self, request: AudioRequest, clock: SteadyClock, playlist: MediaPlaylist, url: str
    ) -> LiveOrigin | None:
        """Return the origin of a playlist, which is live until it says that it has ended, or `None`."""
        source, known, anchor = request.source, request.fingerprint or {}, None
        if playlist.ended and not source.live:
            return None
        if source.at is not None and "sequence" in known:
            anchor = (known["sequence"], source.at + known["sample"] / SAMPLE_RATE)
        fetcher = Fetcher(self._client, replace(source, live=True))
        return LivePlaylist(fetcher, clock, playlist, url, entry_url=source.media_url, anchor=anchor)

    async def _station(
        self, request: AudioRequest, stack: AsyncExitStack
    ) -> tuple[LiveOrigin | None, AudioRequest]:
        """Return where live audio comes from, `None` for a recording; and the request with what was opened.

        A file is live if discovery saw that a station sends it, or if it has no length and arrives at the
        pace at which it plays.
        """
        source = request.source
        if not source.live and await self._may_be_live(request):
            opened = request.opened
            if opened is None:
                origin = self._origins[urlsplit(source.media_url).scheme.lower()]
                with suppress(EgressError):
                    opened = await origin.open(source.media_url, source, first=0, last=None, if_range=None)
                    stack.push_async_callback(opened.aclose)
            if opened is not None:
                live, opened = await self._judge(opened)
                request = replace(request, source=replace(source, live=live), opened=opened)
        if not request.source.live:
            return None, request
        if request.opened is not None:
            await request.opened.aclose()
        return Station(self._client, request.source), request

    async def _may_be_live(self, request: AudioRequest) -> bool:
        """Return whether nothing says yet that the file has an end. Of a preview, that does not matter."""
        source, opened = request.source, request.opened
        return (
            urlsplit(source.media_url).scheme.lower() in {"http", "https"}
            and request.start_sample == 0
            and request.limits.stop_samples is None
            and (source.size_bytes if opened is None else opened.total_bytes) is None
            and request.job_id not in await self._spools.held()
        )

    async def _judge(self, opened: OpenedMedia) -> tuple[bool, OpenedMedia]:
        """Return whether an answer is live, and the answer to read on from."""
        if is_station(opened.headers, opened.total_bytes):
            return True, opened
        if opened.total_bytes is not None or opened.status not in WITH_AUDIO - {206}:
            return False, opened
        replayed = Replayed(opened)
        return await plays_in_real_time(replayed, self._clock), replayed

    async def _open_intake(
        self, request: AudioRequest, spool: Spool, playlist: MediaPlaylist | None
    ) -> Intake:
        if playlist is not None:
            fetcher = Fetcher(self._client, request.source)
            return PlaylistIntake(
                spool, request, self._clock, self._seconds, fetcher=fetcher, playlist=playlist
            )
        origin = self._origins.get(urlsplit(request.source.media_url).scheme.lower())
        if origin is None:
            raise UnsupportedURL
        return Download(spool, request, self._clock, self._seconds, origin)


class MediaStream:
    """Implements `ports.AudioStream` for recordings. One reader; `MediaOpener.open` owns and closes it."""

    live = False
    at: float | None = None

    def __init__(
        self,
        request: AudioRequest,
        intake: Intake,
        fingerprint: MediaFingerprint,
        limits: DecoderLimits,
        spare: SpareDecoder | None,
    ) -> None:
        self._spare = spare
        self._request = request
        self._intake = intake
        self._limits = limits
        self._fingerprint = fingerprint
        self._unverified = request.fingerprint if request.start_sample > 0 else None
        # A spool that holds all that was decoded before needs no check: it is the same download.
        if self._unverified is not None and self._unverified.get("prefix_bytes", 0) <= intake.front:
            self._unverified = None
        self._next_sample = request.start_sample
        self._found = Found(duration_seconds=None, duration_exact=False)
        self._samples: int | None = None
        self.warning: str | None = None
        self._blocks: AsyncGenerator[PCM] | None = None
        self.decoder: ChildProcess | None = None
        """The last child, which may have ended."""
        self._closed = False

    def __aiter__(self) -> AsyncIterator[PCM]:
        if self._blocks is None:
            self._blocks = self._read()
        return self._blocks

    @property
    def duration_seconds(self) -> float | None:
        """See `ports.AudioStream`."""
        if self._samples is not None:
            return self._samples / SAMPLE_RATE
        claim = self._found.duration_seconds
        if claim is None:
            claim = self._intake.stated_seconds
        # Headers may state anything, up to centuries; a length past the limit means nothing.
        most = self._request.limits.max_samples
        return claim if claim is not None and 0 < claim * SAMPLE_RATE <= most else None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """See `ports.AudioStream`."""
        return self._intake.identity() | self._fingerprint.facts()

    def stop(self) -> None:
        """See `ports.AudioStream`."""

    async def aclose(self) -> None:
        """End the reading and the decoder child."""
        self._closed = True
        if self._blocks is None:
            return
        try:
            await self._blocks.aclose()
        except RuntimeError:
            # Another task still waits for the next block: killing the child ends its wait.
            if self.decoder is not None:
                self.decoder.kill()

    async def _read(self) -> AsyncGenerator[PCM]:
        limits = self._request.limits
        if limits.stop_samples is not None and self._next_sample >= limits.stop_samples:
            return
        deaths_here, deaths, last_place = 0, 0, -1
        while True:
            try:
                # After a death, a fresh child: what killed the first may have killed the spare as well.
                async with aclosing(self._decode(self._spare if deaths == 0 else None)) as blocks:
                    async for pcm in blocks:
                        yield pcm
            except DecoderDied as exc:
                if self._closed:
                    return
                _log.warning(
                    "decoder_died",
                    job_id=self._request.job_id,
                    reason=str(exc),
                    at_seconds=self._next_sample / SAMPLE_RATE,
                )
                deaths += 1
                deaths_here = deaths_here + 1 if self._next_sample == last_place else 1
                last_place = self._next_sample
                if deaths_here > MAX_DEATHS_WITHOUT_PROGRESS or deaths > MAX_DEATHS:
                    at = timedelta(seconds=self._next_sample // SAMPLE_RATE)
                    raise TranscriptionFailed(
                        f"The audio can't be decoded at {at}: the decoder failed there repeatedly ({exc}). "
                        "Send the audio in another format."
                    ) from exc
                continue
            return

    async def _decode(self, spare: SpareDecoder | None) -> AsyncGenerator[PCM]:
        """Run one child from `_next_sample` on. Raises `DecoderDied` when it has to be run again."""
        limits = self._request.limits
        child = await take_decoder(
            self._intake,
            self._limits,
            spare,
            skip=self._next_sample,
            stop=limits.stop_samples,
            most=limits.max_samples,
        )
        async with (
            aclosing(child),
            aclosing(decode(child, self._intake, self._limits.stall_seconds)) as messages,
        ):
            self.decoder = child
            try:
                async for message in messages:
                    if isinstance(message, Block):
                        yield await self._take(message)
                        if self._spare is not None:
                            # No earlier: on a small machine it would delay this job's first words.
                            self._spare.refill_soon()
                    elif isinstance(message, Found):
                        self._found = message
                    elif isinstance(message, Ended):
                        self._end(message)
            except Refusal as exc:
                raise self._refused(exc) from exc

    async def _take(self, block: Block) -> PCM:
        """Count a block and return its samples. The child's own count can't be trusted."""
        limits = self._request.limits
        most = limits.max_samples if limits.stop_samples is None else limits.stop_samples
        if self._next_sample + len(block.pcm) > most:
            raise DecoderDied("it sent more than was requested")
        if self._unverified is not None:
            await verify_fingerprint(self._intake, self._unverified)
            self._unverified = None
        self._next_sample += len(block.pcm)
        self._fingerprint.advance(block.position)
        return block.pcm

    def _end(self, end: Ended) -> None:
        failure = self._intake.failure
        if (trouble := WorkerTrouble.behind(failure)) is not None:
            # The rest of the audio is there, only not for this machine.
            raise trouble
        if end.samples <= 0 and self._next_sample == 0:
            if failure is not None:
                raise failure
            raise TranscriptionFailed(
                "The file holds no audio that can be decoded; it may be damaged or cut off. "
                "Check that it plays, then send it again."
            )
        stop = self._request.limits.stop_samples
        if stop is not None and end.samples >= stop:
            return
        self._samples = self._next_sample
        self.warning = self._what_is_missing(end, failure)

    def _what_is_missing(self, end: Ended, failure: JobError | None) -> str | None:
        seconds = self._next_sample / SAMPLE_RATE
        at = timedelta(seconds=int(seconds))
        if failure is not None:
            return f"The download broke off, so the transcript ends at {at}. {failure.message}"
        claim = self._found.duration_seconds if self._found.duration_exact else None
        if end.cut_off or (claim is not None and is_cut_off(claim, seconds)):
            return f"The file is cut off: it ends at {at}, though its header states more."
        if end.note is not None and claim is None:
            return f"The file is damaged: what can be decoded ends at {at}."
        if end.corrupt_packets > 0:
            return (
                f"The file is damaged in {end.corrupt_packets} places; what could not be decoded is missing."
            )
        return None

    def _refused(self, refusal: Refusal) -> Exception:
        """Return the error that a child's refusal means, or that of the download if it broke off."""
        if refusal.kind == "too_long":
            limit = timedelta(seconds=self._request.limits.max_samples // SAMPLE_RATE)
            return AudioTooLarge(
                f"The audio is longer than the {limit} that this service accepts. Send a shorter one."
            )
        if self._next_sample > 0:
            return DecoderDied(str(refusal))
        if self._intake.failure is not None:
            return WorkerTrouble.behind(self._intake.failure) or self._intake.failure
        uploaded = self._request.source.technique == "upload"
        sent = "What was uploaded" if uploaded else "What the URL returned"
        return refused(refusal, sent) or TranscriptionFailed(
            f"The audio can't be decoded: {refusal}. Check that the file plays, then send it again."
        )


@asynccontextmanager
async def open_media(
    settings: Settings,
    policy: EgressPolicy,
    clock: Clock,
    spools: SpoolFolder,
    origins: Mapping[str, MediaOrigin],
) -> AsyncIterator[MediaOpener]:
    """Open what fetches and decodes media, as the settings say. `origins` are URL schemes besides http(s)."""
    async with (
        EgressClient(policy, proxy=settings.egress_proxy) as client,
        SpareDecoder(DecoderLimits()) as spare,
    ):
        yield MediaOpener(client, spools, clock, origins=origins, spare=spare)
