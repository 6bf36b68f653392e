from __future__ import annotations

import json

import numpy as np
import pytest

from stenobird.inference.frames import MAX_PAYLOAD_BYTES, PREFIX, lengths, pack
from stenobird.speech.language import LanguageState
from stenobird.speech.protocol import DecodedWindow, WindowRequest
from stenobird.transcript import Segment, Word


def test_a_request_arrives_as_it_was_sent() -> None:
    request = WindowRequest(
        pcm=np.arange(-500, 500, dtype=np.int16),
        start_sample=16_000,
        speech=((0, 300), (400, 900)),
        language=None,
        language_state=LanguageState(None, {"en": -0.25}, None),
        prompt="Zoë",
        task="translate",
        word_timestamps=True,
        context=" before it.",
        prefix="<|0.00|> hello<|1.50|>",
        early=True,
        unfinished_tail=True,
    )
    header, payload = request.to_frame()
    frame = pack(header, payload)
    header_bytes, payload_bytes = lengths(frame[: PREFIX.size])
    data = frame[PREFIX.size :]

    arrived = WindowRequest.from_frame(json.loads(data[:header_bytes]), data[header_bytes:])

    assert payload_bytes == 2000
    assert np.array_equal(arrived.pcm, request.pcm)
    assert arrived.to_frame()[0] | {"speech": ()} == header | {"speech": ()}
    assert arrived.speech == request.speech
    assert arrived.language_state == request.language_state
    assert arrived.prefix == request.prefix


def test_an_answer_arrives_as_it_was_sent() -> None:
    window = DecodedWindow(
        (Segment(1.0, 2.5, " hello", (Word(1.0, 1.5, " hello", 0.9),), -0.2, 0.01, 1.1),),
        "en",
        LanguageState("en", {}, "de"),
        40_000,
        "<|0.00|> hello<|1.50|>",
    )

    assert DecodedWindow.from_header(json.loads(json.dumps(window.to_header(1)))) == window


def test_a_frame_out_of_bounds_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        lengths(PREFIX.pack(10, MAX_PAYLOAD_BYTES + 1))
