from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.decoder import WhisperDecoder, length_for
from stenobird.speech.language import LanguageState
from stenobird.speech.protocol import WindowRequest
from tests.support.speech import decode_clip

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.ports import PCM


@pytest.fixture(scope="module")
def decoder(fixture_model: Path) -> WhisperDecoder:
    return WhisperDecoder(fixture_model, device="cpu", compute_type="int8", replicas=1)


@pytest.fixture(scope="module")
def pcm(clips: Path) -> PCM:
    return decode_clip(clips / "short.mp3")


def request(pcm: PCM, first: float, last: float) -> WindowRequest:
    region = pcm[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)]
    return WindowRequest(region, round(first * SAMPLE_RATE), ((0, len(region)),), "en")


def text(decoder: WhisperDecoder, window: WindowRequest) -> str:
    return "".join(segment.text for segment in decoder.decode([window])[0].segments)


def test_segments_carry_the_source_s_times(decoder: WhisperDecoder, pcm: PCM) -> None:
    segments = decoder.decode([request(pcm, 7.0, 13.8)])[0].segments

    assert [segment.text for segment in segments] == [
        " on tuesday we delivered nine apple and twenty chocolate in madrid",
        " the little teacher studied the red eagle at the garden",
    ]
    times = [time for segment in segments for time in (segment.start, segment.end)]
    assert times == pytest.approx([7.31, 10.69, 11.03, 13.51], abs=0.15)


def test_words_join_to_the_text_and_fill_their_segment(decoder: WhisperDecoder, pcm: PCM) -> None:
    segments = decoder.decode([replace(request(pcm, 7.0, 13.8), word_timestamps=True)])[0].segments

    for segment in segments:
        assert "".join(word.text for word in segment.words) == segment.text
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert (segment.start, segment.end) == (times[0], times[-1])
        assert all(0 <= word.probability <= 1 for word in segment.words)


def test_a_batch_gives_the_text_of_its_windows_alone(decoder: WhisperDecoder, pcm: PCM) -> None:
    requests = [
        replace(request(pcm, 0.2, 6.9), word_timestamps=True),
        request(pcm, 7.0, 13.8),
        replace(request(pcm, 14.2, 20.4), prompt="alpha bravo"),
        request(pcm, 14.2, 20.4),
        replace(request(pcm, 0.2, 6.9), prompt="bravo alpha"),
    ]

    together = decoder.decode(requests)

    assert [[s.text for s in window.segments] for window in together] == [
        [s.text for s in decoder.decode([window])[0].segments] for window in requests
    ]


def test_a_first_window_in_a_wrong_language_is_decoded_in_the_other_likely_ones(
    decoder: WhisperDecoder, pcm: PCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = [("<|ko|>", 0.5), ("<|ja|>", 0.25), ("<|en|>", 0.15), ("<|de|>", 0.06), ("<|fr|>", 0.04)]
    decoded: list[str] = []

    class Misled:
        """Takes speech for another language, in which it goes round in circles; German is unlikely."""

        def __getattr__(self, name: str) -> Any:
            return getattr(whisper, name)

        def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
            return [probabilities] * encoded.shape[0]

    def submit(encoded: Any, windows: Any, prompts: Any, **constraints: float) -> Any:
        if constraints:
            return submitted(encoded, windows, prompts, **constraints)
        [window] = windows
        decoded.append(window.tokenizer.language_code)
        loop, scores = {"ko": (9.0, -0.1), "ja": (9.0, -0.2), "en": (1.2, -0.4), "de": (1.2, -0.7)}[
            decoded[-1]
        ]
        begun = submitted(encoded, windows, prompts)
        return lambda: [replace(found, compression_ratio=loop, avg_logprob=scores) for found in begun()]

    def tokenizer_for(language: str, task: str) -> Tokenizer:
        tokenizer = Tokenizer(decoder._model.hf_tokenizer, multilingual=False)
        tokenizer.language_code = language
        return tokenizer

    whisper, submitted = decoder._model.model, decoder._submit
    monkeypatch.setattr(decoder, "_tokenizer", tokenizer_for)
    monkeypatch.setattr(decoder._model, "model", Misled())
    monkeypatch.setattr(decoder, "_submit", submit)
    window = replace(request(pcm, 0.2, 6.9), language=None)

    found = decoder.decode([window])[0]
    assert (found.language, decoded) == ("en", ["ko", "ja", "en", "de"])
    assert {segment.language for segment in found.segments} == {"en"}
    assert found.language_state.language in {None, "en"}

    decoded.clear()
    assert decoder.decode([replace(window, early=True)])[0].segments == ()
    assert set(decoded) == {"ko"}  # the whole window decides

    decoded.clear()
    settled = replace(window, language_state=LanguageState("ko"))
    assert decoder.decode([settled])[0].language == "ko"
    assert set(decoded) == {"ko"}


def test_the_same_window_gives_the_same_answer(decoder: WhisperDecoder, pcm: PCM) -> None:
    window = request(pcm, 0.2, 13.8)

    assert decoder.decode([window]) == decoder.decode([window])


def test_a_window_alone_is_encoded_by_all_threads_with_the_same_answer(
    decoder: WhisperDecoder, fixture_model: Path, pcm: PCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = WhisperDecoder(fixture_model, device="cpu", compute_type="int8", replicas=2)
    window = request(pcm, 0.2, 13.8)
    encoders: list[str] = []

    def record(name: str, model: WhisperModel) -> None:
        encode = model.encode

        def recorded(features: Any) -> Any:
            encoders.append(name)
            return encode(features)

        monkeypatch.setattr(model, "encode", recorded)

    record("wide", pair._wide_encoder)
    record("narrow", pair._model)

    assert pair.decode([window]) == decoder.decode([window])
    monkeypatch.setattr(pair, "_decoding", 1)  # another thread decodes a window
    assert pair.decode([window]) == decoder.decode([window])
    assert encoders == ["wide", "narrow"]


def test_a_segment_broken_off_by_the_cut_is_left_to_the_next_window(
    decoder: WhisperDecoder, pcm: PCM
) -> None:
    window = decoder.decode([replace(request(pcm, 0.2, 9.0), unfinished_tail=True)])[0]

    assert [s.text for s in window.segments] == [
        " yankee uniform mike november zulu",
        " on tuesday we found seven coffee and thirty coffee in madrid",
    ]
    assert window.resume_sample is not None
    assert 6.5 <= window.resume_sample / SAMPLE_RATE <= 7.35
    assert window.segments[-1].end <= window.resume_sample / SAMPLE_RATE


def test_early_text_stands_and_the_whole_window_goes_on_from_it(decoder: WhisperDecoder, pcm: PCM) -> None:
    pauses = ((0, 40_000), (56_000, 104_000), (112_000, 217_600))
    whole = replace(request(pcm, 0.2, 13.8), speech=pauses)

    early = decoder.decode([replace(whole, early=True)])[0]
    rest = decoder.decode([replace(whole, prefix=early.context)])[0]

    assert early.context
    assert early.segments[0].text == " yankee uniform mike november zulu"
    texts = [segment.text for segment in (*early.segments, *rest.segments)]
    assert texts == [segment.text for segment in decoder.decode([whole])[0].segments]


def test_a_whole_window_is_the_same_without_the_early_request_before_it(
    decoder: WhisperDecoder, pcm: PCM, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = request(pcm, 0.2, 13.8)
    other = "<|0.00|> whiskey uniform mike november zulu<|2.80|>"
    requests = [replace(whole, prefix=prefix) for prefix in ("", other)]
    alone = [decoder.decode([window]) for window in requests]

    for window, expected in zip(requests, alone, strict=True):
        decoder.decode([replace(whole, early=True)])
        assert decoder.decode([window]) == expected
    assert "uniform" in alone[0][0].segments[0].text
    assert "uniform" not in alone[1][0].segments[0].text  # it goes on from what was committed


def test_a_single_segment_is_kept_however_it_ends(decoder: WhisperDecoder, pcm: PCM) -> None:
    window = decoder.decode([replace(request(pcm, 7.0, 9.0), unfinished_tail=True)])[0]

    assert window.resume_sample is None
    assert len(window.segments) == 1


def test_text_without_speech_under_it_is_dropped(decoder: WhisperDecoder, pcm: PCM) -> None:
    heard = request(pcm, 7.0, 13.8)
    only_the_second = replace(heard, speech=((round(3.9 * SAMPLE_RATE), len(heard.pcm)),))

    assert text(decoder, only_the_second) == " the little teacher studied the red eagle at the garden"


def test_silence_gives_no_text(decoder: WhisperDecoder) -> None:
    window = WindowRequest(np.zeros(8 * SAMPLE_RATE, np.int16), 0, ((0, 1),), "en")

    assert decoder.decode([window])[0].segments == ()


def test_times_stay_within_the_region_whatever_the_model_claims(decoder: WhisperDecoder) -> None:
    noise = np.random.default_rng(0).integers(-8000, 8000, 3 * SAMPLE_RATE).astype(np.int16)
    window = WindowRequest(noise, 160_000, ((0, len(noise)),), "en", word_timestamps=True)

    for segment in decoder.decode([window])[0].segments:
        assert 10.0 <= segment.start <= segment.end <= 13.0


def test_an_english_model_knows_english(decoder: WhisperDecoder) -> None:
    assert decoder.languages == ("en",)


@pytest.mark.parametrize("previous_tokens", [0, 100])
@pytest.mark.parametrize("tokens", [20, 45])
def test_the_limit_on_tokens_is_what_the_engine_generates(
    fixture_model: Path, pcm: PCM, tokens: int, previous_tokens: int
) -> None:
    model = WhisperModel(str(fixture_model), device="cpu", compute_type="int8", cpu_threads=1)
    tokenizer = Tokenizer(model.hf_tokenizer, multilingual=False)
    encoded = model.encode(model.feature_extractor(pcm.astype(np.float32) / 32768))
    prompt = model.get_prompt(tokenizer, (tokenizer.encode(" alpha") * previous_tokens)[:previous_tokens])

    length = length_for(tokens, prompt_tokens=len(prompt))
    (generated,) = model.model.generate(encoded, [prompt], max_length=length, suppress_tokens=[tokenizer.eot])

    assert len(generated.sequences_ids[0]) == tokens
