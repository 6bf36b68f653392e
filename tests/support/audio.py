"""Audio files made on the spot: a tone that says where in the audio it is, in the formats people publish."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stenobird.ports import PCM


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file is made: `codec` and `container` as FFmpeg calls them, `video` the codec of its picture."""

    codec: str
    container: str
    rate: int = 48_000
    layout: str = "stereo"
    video: str | None = None
    bit_rate: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


FORMATS: Mapping[str, Encoding] = {
    "mp3": Encoding("libmp3lame", "mp3"),
    "m4a": Encoding("aac", "mp4", options={"movflags": "faststart"}),
    "m4a-index-last": Encoding("aac", "mp4"),
    "mp4-fragmented": Encoding("aac", "mp4", options={"movflags": "frag_every_frame+empty_moov"}),
    "mp4-video": Encoding("aac", "mp4", video="mpeg4"),
    "mkv-video": Encoding("aac", "matroska", video="mpeg4"),
    "mpegts-video": Encoding("aac", "mpegts", video="mpeg4"),
    "aac": Encoding("aac", "adts"),
    "opus": Encoding("libopus", "ogg"),
    "webm": Encoding("libopus", "webm"),
    "flac": Encoding("flac", "flac"),
    "wav": Encoding("pcm_s16le", "wav"),
    "wav-16k-mono": Encoding("pcm_s16le", "wav", rate=16_000, layout="mono"),
    "aiff": Encoding("pcm_s16be", "aiff"),
    "caf": Encoding("alac", "caf"),
    "mov-alac": Encoding("alac", "mov"),
    "mp2": Encoding("mp2", "mp2"),
    "ac3": Encoding("ac3", "ac3"),
    "eac3": Encoding("eac3", "eac3"),
    "w64": Encoding("pcm_s16le", "w64"),
    "wav-adpcm": Encoding("adpcm_ms", "wav"),
    "wav-mp3": Encoding("libmp3lame", "wav"),
    "wavpack": Encoding("wavpack", "wv"),
    "wma": Encoding("wmav2", "asf", rate=44_100, bit_rate=128_000),
    "amr": Encoding("libopencore_amrnb", "amr", rate=8_000, layout="mono", bit_rate=12_200),
    "au": Encoding("pcm_s16be", "au"),
    "ogg-flac": Encoding("flac", "ogg"),
    "mp4-mp3": Encoding("libmp3lame", "mp4"),
    "m2ts": Encoding("ac3", "mpegts", video="mpeg4", options={"mpegts_m2ts_mode": "1"}),
    "flv": Encoding("libmp3lame", "flv", rate=44_100),
    "flv-video": Encoding("aac", "flv", video="flv"),
    "avi": Encoding("libmp3lame", "avi", video="mpeg4"),
    "avi-pcm": Encoding("pcm_s16le", "avi"),
    "mpeg-ps": Encoding("mp2", "mpeg"),
    "vob": Encoding("ac3", "vob", video="mpeg2video", bit_rate=192_000),
    "tta": Encoding("tta", "tta"),
    "voc": Encoding("pcm_s16le", "voc", rate=44_100),
    "real": Encoding("ac3", "rm", rate=44_100),
    "real-voice": Encoding("real_144", "rm", rate=8_000, layout="mono"),
    "latm": Encoding("aac", "latm"),
    "nut": Encoding("libopus", "nut"),
    "mxf": Encoding("pcm_s16le", "mxf_opatom", layout="mono"),
    "3gp": Encoding("libopencore_amrnb", "3gp", rate=8_000, layout="mono", bit_rate=12_200),
    "mka": Encoding("libmp3lame", "matroska"),
    "mov-adpcm": Encoding("adpcm_ima_qt", "mov", rate=44_100),
    "wav-g726": Encoding("g726", "wav", rate=8_000, layout="mono", bit_rate=32_000),
    "aiff-ulaw": Encoding("pcm_mulaw", "aiff", rate=8_000, layout="mono"),
    "mpegts-mp3": Encoding("libmp3lame", "mpegts"),
}


def tone(seconds: float, rate: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return a tone whose pitch says where in the audio it is: 300 Hz, and 100 Hz more every second."""
    at = np.arange(int(seconds * rate)) / rate
    pitch = 300 + 100 * np.floor(at)
    return (0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / rate) * 32767).astype(np.int16)


def encode(how: Encoding, seconds: float = 8.0) -> bytes:
    """Return a file with the rising tone in it."""
    rate, layout = how.rate, how.layout
    # A named file, because "faststart" opens it again to move the index to the front.
    with (
        tempfile.NamedTemporaryFile() as file,
        av.open(file.name, "w", format=how.container, options=dict(how.options)) as output,
    ):
        picture: Any = None
        if how.video is not None:
            picture = output.add_stream(how.video, rate=5)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        stream: Any = output.add_stream(how.codec, rate=rate)
        stream.layout = layout
        if how.bit_rate is not None:
            stream.bit_rate = how.bit_rate
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format, layout=layout, rate=rate, frame_size=context.frame_size or 1024
        )
        samples = tone(seconds, rate)
        channels = 2 if layout == "stereo" else 1
        frames = 0
        for start in range(0, len(samples), 1024):
            block = np.repeat(samples[start : start + 1024], channels)[None, :]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            for ready in resampler.resample(frame):
                output.mux(stream.encode(ready))
            while picture is not None and frames < start / rate * 5:
                pixels = np.full((64, 64, 3), frames % 255, dtype=np.uint8)
                image = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                image.pts = frames
                frames += 1
                output.mux(picture.encode(image))
        for ready in resampler.resample(None):
            if ready is not None:
                output.mux(stream.encode(ready))
        if picture is not None:
            output.mux(picture.encode(None))
        output.mux(stream.encode(None))
        output.close()
        return file.read()


def pitches(pcm: PCM) -> Iterator[float]:
    """Yield the loudest frequency of each whole second."""
    for second in range(len(pcm) // SAMPLE_RATE):
        # The middle of the second: encoders and resamplers smear its edges.
        middle = pcm[second * SAMPLE_RATE + 4000 : second * SAMPLE_RATE + 12_000].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        yield float(np.argmax(spectrum)) * SAMPLE_RATE / len(middle)


TIMED_CODECS: Mapping[str, str] = {
    "webm": "libopus",
    "ogg": "libopus",
    "asf": "wmav2",
    "mpeg": "mp2",
    "avi": "libmp3lame",
    "flv": "libmp3lame",
}
TIMED_PICTURES: Mapping[str, str] = {"mpeg": "mpeg2video", "flv": "flv"}


def timed(
    container: str,
    pieces: Sequence[tuple[float, float]],
    *,
    picture_seconds: float = 0.0,
    options: dict[str, str] | None = None,
    sound: Callable[[float, int], np.ndarray[Any, np.dtype[np.int16]]] | None = None,
) -> bytes:
    """Return a file whose audio is in pieces of `(start, length)` seconds, with a picture or without.

    `sound` makes that many seconds at a sample rate; without it, each piece is a `tone`.
    """
    target = io.BytesIO()
    rate = 44_100 if container == "flv" else 48_000
    with av.open(target, "w", format=container, options=options or {}) as output:
        picture: Any = None
        if picture_seconds:
            picture = output.add_stream(TIMED_PICTURES.get(container, "mpeg4"), rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        stream: Any = output.add_stream(TIMED_CODECS.get(container, "aac"), rate=rate)
        stream.layout = "stereo"
        stream.bit_rate = 128_000
        packets = []
        for start, seconds in pieces:
            encoder: Any = av.CodecContext.create(stream.codec_context.name, "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, "stereo", stream.codec_context.format
            encoder.bit_rate = 128_000
            encoder.open()
            size = encoder.frame_size or 1024
            resampler = av.AudioResampler(format=encoder.format, layout="stereo", rate=rate, frame_size=size)
            frame = av.AudioFrame.from_ndarray(
                np.repeat((sound or tone)(seconds, rate), 2)[None, :], "s16", "stereo"
            )
            frame.sample_rate, frame.pts = rate, 0
            for ready in [*resampler.resample(frame), *resampler.resample(None), None]:
                for packet in encoder.encode(ready):
                    seconds_at = start + float(packet.pts * packet.time_base)
                    if seconds_at >= 0:
                        packets.append((seconds_at, 1, packet, stream))
        for number in range(int(picture_seconds * 25)):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 255, np.uint8), format="rgb24")
            image.pts = number
            packets += [(number / 25, 0, packet, picture) for packet in picture.encode(image)]
        for seconds_at, _order, packet, owner in sorted(packets, key=lambda entry: entry[:2]):
            packet.stream = owner
            if owner is stream:
                packet.pts = packet.dts = round(seconds_at / packet.time_base)
            output.mux(packet)
    return target.getvalue()
