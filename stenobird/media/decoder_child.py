"""The decoder child: hostile bytes in on fd 0, 16 kHz mono PCM out on fd 1, and access to nothing else.

Started by `decode.start_decoder`, isolated (`python -I`). It imports the standard library and PyAV only,
because its start-up is part of the time to the first word.

Before the first byte is parsed it confines itself (`children.confine`), limits its address space, CPU
seconds, file writes, processes and open files, and gives up all system calls but a few
(`children.confine`); from then on it can't open anything. FFmpeg is given an object to read from, never a
name; the demuxer is chosen here, by magic bytes, and forced, so that no probe can pick a playlist;
`protocol_whitelist` allows nothing; only audio decoders may be opened.

Wire format, little-endian. Child to parent: kind (1 byte), length (u32), payload:

    R  offset (u64), size (u32): bytes from there, please       answered by: length (u32), bytes; 0 is the end
    S  wait (u8): how long is the file?                         answered by: length (i64), -1 unknown
    I  JSON: duration_seconds, duration_exact
    P  position (u64), then s16 samples: at most a second of PCM; position is the highest byte offset read
    H  position (u64): still working, on samples that are skipped
    E  JSON: the end: samples (from the start of the audio), corrupt_packets, cut_off, note
    X  JSON: kind, message: nothing can be decoded; see `Refusal`

A regular file as fd 0 is read in place, and R and S are never sent.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import stat
import struct
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from stenobird.children.confine import allow_only, confine, limit
from stenobird.containers import mpeg_stated_seconds
from stenobird.media.downmix import HIGHEST_RATE, LOWEST_RATE, SAMPLE_RATE, Mono, Timeline
from stenobird.media.pipes import (
    READ_BYTES,
    AiffPipe,
    ChainedPipe,
    Pipe,
    SeekablePipe,
    UntaggedPipe,
    WavPipe,
    is_cut_off,
    mp4_atom,
    ogg_page,
)
from stenobird.media.recognition import Refusal, index_comes_late, read_fully, recognise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stenobird.media.recognition import Source

BLOCK_SAMPLES = SAMPLE_RATE
HEARTBEAT_SAMPLES = 60 * SAMPLE_RATE
MAX_FAILURES_IN_A_ROW = 1000
MAX_PARTS = 100_000

HEADER = struct.Struct("<cI")
READ_REQUEST = struct.Struct("<QI")
READ_REPLY = struct.Struct("<I")
SIZE_REPLY = struct.Struct("<q")
POSITION = struct.Struct("<Q")

DISCARD_ALL = 48

# Only these may be opened, by FFmpeg's own stream probing as well: a picture or a video frame is never
# decoded.
AUDIO_DECODERS = (
    "aac,aac_fixed,aac_latm,ac3,ac3_fixed,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_sbpro_2,adpcm_sbpro_3,"
    "adpcm_sbpro_4,adpcm_swf,adpcm_yamaha,alac,amrnb,"
    "amrwb,cook,dca,eac3,flac,g722,g726,gsm,gsm_ms,libgsm,libgsm_ms,libopencore_amrnb,libopencore_amrwb,libopus,libspeex,"
    "libvorbis,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3float,nellymoser,opus,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,"
    "pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,pcm_s8_planar,"
    "pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,real_144,real_288,sipr,speex,truehd,tta,vorbis,wavpack,wmalossless,wmapro,"
    "wmav1,wmav2,wmavoice"
)

# Probing that reads far delays the first word; a transport stream needs more to find its tracks.
PROBE_BYTES = {
    "mpegts": 1 << 20,
    "mpeg": 1 << 20,
    "avi": 1 << 18,
    "flv": 1 << 20,
    "asf": 1 << 18,
    "mov": 1 << 17,
    "matroska": 1 << 17,
}
PROBE_MICROSECONDS = {"mpeg": 10_000_000, "flv": 10_000_000}
"""These have no list of their tracks, and audio may start late."""
SEEKABLE = frozenset({"caf"})
STATES_DURATION = frozenset({"mov", "matroska", "flac", "caf", "aiff", "wv", "mp3"})
ESTIMATED = frozenset({"mp3", "aac", "ac3", "eac3", "wav"})
UNFRAMED = frozenset({"mp3", "aac"})
"""In these, what follows the last frame (a tag, padding, a part of a frame) looks like a damaged packet."""
STITCHED = 1.2


class RegularFile:
    """The complete spool, open on fd 0."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what is there."""
        return os.pread(0, size, offset)

    def size(self, *, wait: bool) -> int | None:
        """Return the length of the file."""
        del wait
        return os.fstat(0).st_size


class RemoteFile:
    """Bytes that the parent hands over as they arrive; fd 0 is one end of a socket pair."""

    before_read: Callable[[], None] | None = None

    def read_at(self, offset: int, size: int) -> bytes:
        """Request bytes from the parent, and wait for at least one."""
        if self.before_read is not None:
            self.before_read()
        send(b"R", READ_REQUEST.pack(offset, size))
        (length,) = READ_REPLY.unpack(receive(READ_REPLY.size))
        return receive(length)

    def size(self, *, wait: bool) -> int | None:
        """Request it from the parent, which may `wait` until it is known."""
        send(b"S", bytes([wait]))
        (length,) = SIZE_REPLY.unpack(receive(SIZE_REPLY.size))
        return length if length >= 0 else None


def send(kind: bytes, payload: bytes) -> None:
    """Send one message; waits while the parent does not read."""
    data = memoryview(HEADER.pack(kind, len(payload)) + payload)
    while data:
        data = data[os.write(1, data) :]


def receive(size: int) -> bytes:
    """Return exactly so many bytes of the parent's answer."""
    parts = []
    while size > 0:
        part = os.read(0, size)
        if not part:
            os._exit(0)  # the parent has closed its end
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# --- limits -----------------------------------------------------------------------------------------------


def lock_down(memory_bytes: int, cpu_seconds: int) -> None:
    """Limit what this process may use; called when everything is imported and nothing is parsed.

    `memory_bytes` comes on top of the address space that the libraries take. No descriptor can be opened any
    more, even if one of the three is closed.
    """
    # Only Linux says how much address space is taken; elsewhere the service's own limits remain.
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  # pathlib would cost a millisecond of start-up
        limit(AS=int(statm.read().split()[0]) * resource.getpagesize() + memory_bytes)
    limit(CPU=cpu_seconds, FSIZE=0, NPROC=0, NOFILE=0)
    allow_only("decoder")


# --- decoding -----------------------------------------------------------------------------------------------


class Output:
    """Counts samples from the start of the audio, and sends the wanted ones in blocks."""

    def __init__(self, *, skip: int, stop: int | None, most: int, block: int) -> None:
        self.pipe: Pipe | None = None
        self._skip = skip
        self._stop = stop
        self.most = most
        self._block_bytes = 2 * block
        self._block = bytearray()
        self._beat = 0
        self.samples = 0

    def write(self, pcm: memoryview) -> bool:
        """Take s16 bytes; return whether `stop` is reached. Raises `Refusal` past the allowed length."""
        count = len(pcm) // 2
        if self._stop is not None and self.samples + count >= self._stop:
            count = self._stop - self.samples
            pcm = pcm[: 2 * count]
        if self.samples + count > self.most:
            raise Refusal("too_long", "it is longer than allowed")
        skipped = min(count, max(0, self._skip - self.samples))
        self.samples += count
        self._block += pcm[2 * skipped :]
        if skipped and self.samples - self._beat >= HEARTBEAT_SAMPLES:
            self._beat = self.samples
            send(b"H", POSITION.pack(self._position()))
        while len(self._block) >= self._block_bytes:
            self._send(self._block_bytes)
        return self._stop is not None and self.samples >= self._stop

    def flush(self) -> None:
        """Send what is left."""
        if self._block:
            self._send(len(self._block))

    def _position(self) -> int:
        return self.pipe.highest if self.pipe is not None else 0

    def _send(self, size: int) -> None:
        send(b"P", POSITION.pack(self._position()) + self._block[:size])
        del self._block[:size]


class Decoder:
    """Frames of one audio track, brought to 16 kHz mono whatever they change to on the way.

    The position of a sample is the number of samples before it, with silence for those that are `missing`
    before a frame.
    """

    def __init__(
        self, av: Any, container: Any, stream: Any, missing: Callable[[Any], int] = lambda _: 0
    ) -> None:
        self._av = av
        self._container = container
        self._stream = stream
        self._missing = missing
        self._mono: Mono | None = None
        self._shape: tuple[Any, ...] = ()
        self.corrupt_packets = 0
        self.note: str | None = None
        self.furthest_seconds = 0.0

    def pcm(self) -> Iterator[memoryview]:
        """Yield s16 samples until the track ends or is too damaged to go on."""
        for frame in self._frames():
            if not LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE:
                raise ValueError(f"a sample rate of {frame.sample_rate}")
            yield from self._silence(self._missing(frame))
            yield from self._resample(frame)
        yield from self._drain()

    def _frames(self) -> Iterator[Any]:
        failures = 0
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                # FFmpeg's decoders recover after a damaged packet.
                self.corrupt_packets += 1
                failures += 1
                if failures > MAX_FAILURES_IN_A_ROW:
                    self.note = "most of it is damaged"
                    return
                continue
            if frames:
                failures = 0
            yield from frames
        if failures == 1 and self._container.format.name in UNFRAMED:
            self.corrupt_packets -= 1

    def _packets(self) -> Iterator[Any]:
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError as exc:
                self.note = f"the container broke off: {exc.strerror}"
                return
            if packet is None:
                return
            if packet.pts is not None and packet.time_base is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.furthest_seconds = max(self.furthest_seconds, end)
            # Not its number: the empty packets with which PyAV ends each stream all have number 0.
            if packet.stream.index == self._stream.index:
                yield packet

    def _silence(self, samples: int) -> Iterator[memoryview]:
        if samples:
            yield from self._drain()
        while samples > 0:
            size = min(samples, BLOCK_SAMPLES)
            samples -= size
            yield memoryview(bytes(2 * size))

    def _resample(self, frame: Any) -> Iterator[memoryview]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._mono is None or shape != self._shape:
            yield from self._drain()
            self._mono = Mono(self._av, frame.layout)
            self._shape = shape
        frame.pts = None
        yield from self._mono.feed(frame)

    def _drain(self) -> Iterator[memoryview]:
        if self._mono is not None:
            yield from self._mono.feed(None)
            self._mono = None


def refuse_open(*_arguments: object) -> NoReturn:
    """Refuse to open a second file that the first one names; given to FFmpeg as its way to open files."""
    raise OSError("a media file may not open another one")


def duration(
    container: Any, stream: Any, demuxer: str, size: int | None, header_seconds: float | None
) -> tuple[float | None, bool]:
    """Return the length that the container states, or an estimate from its bit rate, and which it is."""
    bit_rate = stream.codec_context.bit_rate or container.bit_rate
    estimate = size * 8 / float(bit_rate) if demuxer in ESTIMATED and size and bit_rate else None
    exact = demuxer in STATES_DURATION
    stated = None
    if stream.duration is not None and stream.time_base is not None and stream.duration > 0:
        stated = float(stream.duration * stream.time_base)
    elif container.duration is not None and container.duration > 0:
        stated = float(container.duration / 1_000_000)
        # It may be that of the picture, or of another language.
        exact = exact and len(container.streams) == 1
    if demuxer == "mp3":
        # FFmpeg prefers an estimate, which does not show whether anything is missing.
        stated = header_seconds
    # In a programme stitched from several files, the first one's header states its own length only.
    if stated is None or (estimate is not None and estimate > STITCHED * stated):
        return estimate, False
    return stated, exact


def open_container(av: Any, pipe: Pipe, demuxer: str) -> tuple[Any, Any]:
    """Open what `pipe` holds; return the container and its audio track. Raises `Refusal`."""
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": demuxer,
        "codec_whitelist": AUDIO_DECODERS,
        "probesize": str(PROBE_BYTES.get(demuxer, READ_BYTES)),
        "analyzeduration": str(PROBE_MICROSECONDS.get(demuxer, 2_000_000)),
        "max_streams": "64",
    }
    try:
        container = av.open(
            pipe,
            "r",
            format=demuxer,
            options=options,
            buffer_size=READ_BYTES,
            io_open=refuse_open,
            metadata_errors="ignore",
        )
    except (av.FFmpegError, ValueError, OSError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise Refusal("broken", f"it is damaged or cut off ({reason})") from exc
    # Where the audio starts late, FFmpeg has not seen enough of it to call it the best.
    stream = container.streams.best("audio") or next(iter(container.streams.audio), None)
    if stream is None:
        raise Refusal("no_audio", "it has no audio track")
    context = stream.codec_context
    if context is None or context.codec.name not in AUDIO_DECODERS.split(","):
        name = context.codec.name if context is not None else "unknown or encrypted"
        raise Refusal("no_audio", f"its audio track ({name}) can't be decoded")
    # At one sample a second, a small file is days long and costs hours of work.
    if context.sample_rate and not LOWEST_RATE <= context.sample_rate <= HIGHEST_RATE:
        raise Refusal("broken", f"it states a sample rate of {context.sample_rate} Hz")
    context.thread_count = 1
    for other in container.streams:
        # Matroska states one length for all tracks, so the others show whether the file is cut off.
        if other.index != stream.index and hasattr(other, "discard") and demuxer != "matroska":
            other.discard = DISCARD_ALL
    return container, stream


def open_pipe(source: Source, demuxer: str, base: int, header: bytes) -> Pipe:
    """Return what the demuxer reads, from `base` on; `header` comes first."""
    if demuxer in SEEKABLE or (demuxer == "mov" and index_comes_late(source, base)):
        return SeekablePipe(source, base)
    if demuxer == "wav":
        return WavPipe(source, base, header)
    if demuxer in {"ogg", "mov"}:
        return ChainedPipe(source, base, ogg_page if demuxer == "ogg" else mp4_atom)
    kinds = {"mp3": UntaggedPipe, "aac": UntaggedPipe, "aiff": AiffPipe}
    return kinds.get(demuxer, Pipe)(source, base)


class Job:
    """The parts of one file, decoded one after the other into one output."""

    def __init__(self, av: Any, source: Source, options: dict[str, Any]) -> None:
        self._av = av
        self._source = source
        self._stitched = options["stitched"]
        self._output = Output(**{name: options[name] for name in ("skip", "stop", "most", "block")})
        if isinstance(source, RemoteFile) and options["block"] < BLOCK_SAMPLES:
            # Live audio: what was decoded does not wait for bytes that are still to come.
            source.before_read = self._output.flush
        self._corrupt_packets = 0
        self._note: str | None = None
        self._cut_off = False

    def run(self) -> None:
        """Decode everything, up to and including the end message. Raises `Refusal`."""
        demuxer, base = recognise(self._source)
        pipe = open_pipe(self._source, demuxer, base, b"")
        try:
            container, stream = open_container(self._av, pipe, demuxer)
        except Refusal as exc:
            if exc.kind != "broken" or isinstance(pipe, SeekablePipe):
                raise
            # Behind damage, some demuxers find the next packet only where they can go back.
            pipe = SeekablePipe(self._source, base)
            container, stream = open_container(self._av, pipe, demuxer)
        size = self._source.size(wait=False)
        stated = mpeg_stated_seconds(read_fully(self._source, base, 128)) if demuxer == "mp3" else None
        seconds, exact = duration(container, stream, demuxer, size and size - base, stated)
        send(b"I", json.dumps({"duration_seconds": seconds, "duration_exact": exact}).encode())
        for _ in range(MAX_PARTS):
            following = self._decode(pipe, container, stream, demuxer)
            if following is None:
                break
            container.close()
            try:
                pipe = open_pipe(self._source, demuxer, *following)
                container, stream = open_container(self._av, pipe, demuxer)
            except Refusal as exc:
                self._note = str(exc)
                break
        self._output.flush()
        end = {
            "samples": self._output.samples,
            "corrupt_packets": self._corrupt_packets,
            "cut_off": self._cut_off,
            "note": self._note,
        }
        send(b"E", json.dumps(end).encode())

    def _decode(self, pipe: Pipe, container: Any, stream: Any, demuxer: str) -> tuple[int, bytes] | None:
        """Decode one part; return the next one, see `Pipe.next_part`."""
        self._output.pipe = pipe
        timeline = Timeline(container, stream, demuxer, stitched=self._stitched)

        def missing(frame: Any) -> int:
            return timeline.gap_samples(frame, self._output.most - self._output.samples)

        decoder = Decoder(self._av, container, stream, missing)
        stopped = False
        try:
            for pcm in decoder.pcm():
                if stopped := self._output.write(pcm):
                    break
        except (self._av.FFmpegError, ValueError) as exc:
            decoder.note = f"decoding broke off: {exc}"
        self._corrupt_packets += decoder.corrupt_packets
        self._note = decoder.note
        if stopped:
            return None
        if demuxer == "matroska" and container.duration:
            # It states the length of its longest track only.
            self._cut_off = is_cut_off(container.duration / 1_000_000, decoder.furthest_seconds)
        following = pipe.next_part()
        self._note = self._note or pipe.note
        self._cut_off = self._cut_off or pipe.cut_off
        return following


def rehearse(av: Any) -> None:
    """Decode a few samples of silence, so that whatever PyAV imports or FFmpeg opens late is loaded already.

    Subtitle and video modules are imported when a container names such tracks; the limits would prevent that.
    """
    import av.subtitles.codeccontext  # noqa: PLC0415
    import av.subtitles.stream  # noqa: PLC0415
    import av.video.stream  # noqa: PLC0415

    silence = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 292, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 256
    )
    with av.open(io.BytesIO(silence + bytes(256)), "r", format="wav") as container:
        for _pcm in Decoder(av, container, container.streams.audio[0]).pcm():
            pass


def main() -> NoReturn:
    """Do the one job on the command line, then end at once."""
    job = json.loads(sys.argv[1])
    confine(int(sys.argv[2]))
    try:
        try:
            import av  # noqa: PLC0415  # once confined; a failure is reported

            rehearse(av)
        except (ImportError, OSError) as exc:
            raise Refusal("environment", f"PyAV does not work: {exc}") from exc
        source = RegularFile() if stat.S_ISREG(os.fstat(0).st_mode) else RemoteFile()
        lock_down(job["memory_bytes"], job["cpu_seconds"])
        if "most" not in job:
            # A spare child gets its job later, over the socket.
            (length,) = READ_REPLY.unpack(receive(READ_REPLY.size))
            job = json.loads(receive(length))
        try:
            Job(av, source, job).run()
        except MemoryError as exc:
            raise Refusal("broken", "decoding it takes more memory than allowed") from exc
    except Refusal as exc:
        send(b"X", json.dumps({"kind": exc.kind, "message": str(exc)}).encode())
    # Nothing is left to close, and no destructor should run over hostile state.
    os._exit(0)


if __name__ == "__main__":
    main()
