"""One window in, its segments out: a single pass of Whisper on faster-whisper's parts.

`WhisperModel.transcribe` encodes a window once for each stretch it re-seeks, and `BatchedInferencePipeline`
has no fallback and no no-speech check; this decoder encodes once, checks, and goes back only for speech that
the text does not cover.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.protocol import DecodedWindow
from stenobird.speech.segments import (
    HANDOVER_FROM,
    REST_SPEECH_SECONDS,
    Piece,
    add_evidence,
    compression_ratio,
    hand_over,
    is_spoken,
    likeliest,
    overlap,
    split_at_timestamps,
)
from stenobird.speech.windows import quietest
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stenobird.speech.protocol import WindowRequest

MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6
TOKENS_AT_LEAST = 20
TOKENS_A_SECOND = 12.0
MAX_PASSES = 3
"""Passes over one window; speech that the third does not cover is left out."""

_WINDOW_SAMPLES = 30 * SAMPLE_RATE
_MAX_LENGTH = 448
_PREPEND = "\"'“¿([{-"
_APPEND = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001  # faster-whisper's defaults

Encoded: TypeAlias = Any
"""A ctranslate2.StorageView, shape `(batch, 1500, width)`."""


@dataclass(frozen=True, slots=True)
class _Generation:
    """The model's output for one window, with its measures of quality."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float

    @property
    def weak(self) -> bool:
        return self.compression_ratio > MAX_COMPRESSION_RATIO or self.avg_logprob < MIN_AVG_LOGPROB

    @property
    def silent(self) -> bool:
        return self.no_speech_prob > MAX_NO_SPEECH_PROB and self.avg_logprob < MIN_AVG_LOGPROB


@dataclass(slots=True)
class _Draft:
    """A segment in seconds from the start of its request's region."""

    piece: Piece
    text: str
    generation: _Generation
    words: tuple[Word, ...] = ()


class WhisperDecoder:
    """A loaded model. `decode` may be called from as many threads as there are replicas.

    On CPU each replica has one thread and the replicas share the weights; on CUDA one call takes a batch.
    The same request gives the same answer on CPU, whatever else is being decoded.
    """

    def __init__(
        self, folder: Path, *, device: str, compute_type: str, replicas: int, beam_size: int
    ) -> None:
        self._model = WhisperModel(
            str(folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=1,
            num_workers=replicas,
            local_files_only=True,
        )
        self._beam_size = beam_size
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._suppressed: list[int] = list(get_suppressed_tokens(self._tokenizer("en", "transcribe"), [-1]))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that the model knows."""
        return tuple(self._model.supported_languages)

    @property
    def compute_type(self) -> str:
        """The type that CTranslate2 computes in, given what was asked for and what this device has."""
        return str(self._model.model.compute_type)

    def decode(self, requests: Sequence[WindowRequest]) -> list[DecodedWindow]:
        """Decode a batch; one result a request, in order. Raises `RuntimeError` from CTranslate2."""
        encoded = self._encode([request.pcm for request in requests])
        scores = self._language_scores(encoded, requests)
        tokenizers = [
            self._tokenizer(request.language or likeliest(sums)[0], request.task)
            for request, sums in zip(requests, scores, strict=True)
        ]
        generations = self._generate(encoded, requests, tokenizers)
        decoded = []
        for i, request in enumerate(requests):
            one = _rows(encoded, [i]) if generations[i].weak or request.word_timestamps else encoded
            window = self._window(one, request, tokenizers[i], generations[i])
            language = request.language or likeliest(scores[i])[0]
            decoded.append(replace(window, language=language, language_scores=scores[i]))
        return decoded

    def _encode(self, regions: Sequence[np.ndarray[Any, np.dtype[np.int16]]]) -> Encoded:
        """Return the encoder's output. The PCM is padded, not the features: zero features are not silence."""
        features = []
        for pcm in regions:
            audio = np.zeros(_WINDOW_SAMPLES, np.float32)
            audio[: len(pcm)] = pcm[:_WINDOW_SAMPLES] / np.float32(32768.0)
            features.append(self._model.feature_extractor(audio, padding=0))
        return self._model.encode(np.stack(features))

    def _language_scores(self, encoded: Encoded, requests: Sequence[WindowRequest]) -> list[dict[str, float]]:
        if all(request.language is not None for request in requests):
            return [{} for _ in requests]
        found = self._model.model.detect_language(encoded)
        return [
            {}
            if request.language is not None
            else add_evidence(request.language_scores, {token[2:-2]: p for token, p in rows})
            for request, rows in zip(requests, found, strict=True)
        ]

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        key = (language, task)
        if key not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[key] = Tokenizer(
                self._model.hf_tokenizer, multilingual, task=task, language=language
            )
        return self._tokenizers[key]

    def _prompt(self, request: WindowRequest, tokenizer: Tokenizer) -> list[int]:
        prompt = (request.prompt or "").strip()
        previous = tokenizer.encode(" " + prompt) if prompt else []
        return list(self._model.get_prompt(tokenizer, previous))

    def _generate(
        self, encoded: Encoded, requests: Sequence[WindowRequest], tokenizers: Sequence[Tokenizer]
    ) -> list[_Generation]:
        """Decode in batches of windows whose prompts have the same length, as CTranslate2 requires."""
        prompts = [self._prompt(r, t) for r, t in zip(requests, tokenizers, strict=True)]
        by_length: dict[int, list[int]] = {}
        for i, prompt in enumerate(prompts):
            by_length.setdefault(len(prompt), []).append(i)
        generations: dict[int, _Generation] = {}
        for rows in by_length.values():
            found = self._generate_batch(
                encoded if len(rows) == len(prompts) else _rows(encoded, rows),
                [requests[i] for i in rows],
                [tokenizers[i] for i in rows],
                [prompts[i] for i in rows],
            )
            generations |= zip(rows, found, strict=True)
        return [generations[i] for i in range(len(prompts))]

    def _generate_batch(
        self,
        encoded: Encoded,
        requests: Sequence[WindowRequest],
        tokenizers: Sequence[Tokenizer],
        prompts: list[list[int]],
        **constraints: float,
    ) -> list[_Generation]:
        seconds = max(len(request.pcm) for request in requests) / SAMPLE_RATE
        budget = TOKENS_AT_LEAST + int(TOKENS_A_SECOND * seconds)
        results = self._model.model.generate(
            encoded,
            prompts,
            beam_size=self._beam_size,
            max_length=length_for(budget, prompt_tokens=len(prompts[0])),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=50,
            **constraints,
        )
        generations = []
        for result, tokenizer in zip(results, tokenizers, strict=True):
            tokens = result.sequences_ids[0]
            text = tokenizer.decode(tokens).strip()
            # The score is the mean over the tokens without the end token; Whisper counts that one too.
            logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
            generations.append(
                _Generation(tuple(tokens), text, logprob, result.no_speech_prob, compression_ratio(text))
            )
        return generations

    def _retried(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, first: _Generation
    ) -> _Generation:
        """Decode a doubtful window once more, without repetitions, and return the better of the two.

        Nothing is sampled, so that a resumed run gives the text of an undisturbed one.
        """
        if not first.weak or first.silent:
            return first
        second = self._generate_batch(
            encoded,
            [request],
            [tokenizer],
            [self._prompt(request, tokenizer)],
            no_repeat_ngram_size=3,
            repetition_penalty=1.1,
        )[0]
        return max(first, second, key=lambda h: (h.compression_ratio <= MAX_COMPRESSION_RATIO, h.avg_logprob))

    def _window(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, generation: _Generation
    ) -> DecodedWindow:
        speech = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in request.speech]
        duration = len(request.pcm) / SAMPLE_RATE
        drafts: list[_Draft] = []
        offset = 0.0
        for passes in range(1, MAX_PASSES + 1):
            rest = _from(request, offset)
            generation = self._retried(encoded, rest, tokenizer, generation)
            found = [] if generation.silent else self._drafts(encoded, rest, tokenizer, generation)
            covered = max((draft.piece.end for draft in found if draft.piece.closed), default=0.0)
            uncovered = overlap(offset + covered, duration, speech) >= REST_SPEECH_SECONDS
            left = request.unfinished_tail and offset + covered >= HANDOVER_FROM * duration
            again = uncovered and covered > 0 and passes < MAX_PASSES and not left
            if again:
                found = [draft for draft in found if draft.piece.closed]
            drafts += [_shifted(draft, offset) for draft in found]
            if not again:
                break
            offset += covered
            rest = _from(request, offset)
            encoded = self._encode([rest.pcm])
            generation = self._generate(encoded, [rest], [tokenizer])[0]
        drafts = [d for d in drafts if is_spoken(d.piece.start, d.piece.end, speech)]
        resume = None
        if request.unfinished_tail:
            kept, seconds = hand_over([draft.piece for draft in drafts], duration=duration, speech=speech)
            drafts = drafts[:kept]
            resume = None if seconds is None else _gap_near(request, seconds)
        return DecodedWindow(_segments(drafts, request, resume), "", {}, resume)

    def _drafts(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, generation: _Generation
    ) -> list[_Draft]:
        duration = len(request.pcm) / SAMPLE_RATE
        pieces = split_at_timestamps(
            generation.tokens, timestamp_begin=tokenizer.timestamp_begin, eot=tokenizer.eot, duration=duration
        )
        drafts = [_Draft(piece, tokenizer.decode(piece.tokens), generation) for piece in pieces]
        drafts = [draft for draft in drafts if draft.text.strip() and draft.piece.end > draft.piece.start]
        if drafts and request.word_timestamps:
            self._add_words(encoded, tokenizer, drafts, duration)
        return drafts

    def _add_words(
        self, encoded: Encoded, tokenizer: Tokenizer, drafts: list[_Draft], duration: float
    ) -> None:
        rows: list[dict[str, Any]] = [
            {"seek": 0, "start": d.piece.start, "end": d.piece.end, "tokens": list(d.piece.tokens)}
            for d in drafts
        ]
        frames = int(duration * self._model.frames_per_second)
        self._model.add_word_timestamps(
            [rows], tokenizer, encoded, frames, _PREPEND, _APPEND, last_speech_timestamp=0.0
        )
        for draft, row in zip(drafts, rows, strict=True):
            draft.words = tuple(
                Word(float(word["start"]), float(word["end"]), word["word"], float(word["probability"]))
                for word in row.get("words", ())
            )


def length_for(tokens: int, *, prompt_tokens: int) -> int:
    """Return the `max_length` with which CTranslate2 generates up to so many tokens.

    It counts all of the prompt but the last token in, and generates half of it at most, as Whisper's
    reference decoder does of its 448.
    """
    return min(_MAX_LENGTH, max(2 * tokens, prompt_tokens - 1 + tokens))


def _rows(encoded: Encoded, indices: Sequence[int]) -> Encoded:
    """Return some windows of an encoded batch, as a batch of their own."""
    if encoded.shape[0] == len(indices):
        return encoded
    host = encoded.to_device(ctranslate2.Device.cpu).to(ctranslate2.DataType.float32)
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.array(host)[list(indices)]))


def _from(request: WindowRequest, offset: float) -> WindowRequest:
    return replace(request, pcm=request.pcm[round(offset * SAMPLE_RATE) :]) if offset else request


def _shifted(draft: _Draft, offset: float) -> _Draft:
    piece = replace(draft.piece, start=draft.piece.start + offset, end=draft.piece.end + offset)
    words = tuple(replace(w, start=w.start + offset, end=w.end + offset) for w in draft.words)
    return _Draft(piece, draft.text, draft.generation, words)


def _gap_near(request: WindowRequest, seconds: float) -> int:
    """Return the sample of the source between two segments.

    The model's times are accurate to about a tenth of a second, so the quietest place near by is taken.
    """
    middle = round(seconds * SAMPLE_RATE)
    reach = SAMPLE_RATE * 3 // 20
    first, last = max(0, middle - reach), min(middle + reach, len(request.pcm))
    return request.start_sample + quietest(request.pcm, first, last)


def _segments(drafts: list[_Draft], request: WindowRequest, resume: int | None) -> tuple[Segment, ...]:
    """Return the drafts in seconds of the source: in order, not overlapping, within the region."""
    offset = request.start_sample / SAMPLE_RATE
    last = (request.start_sample + len(request.pcm) if resume is None else resume) / SAMPLE_RATE
    next_starts = [*(offset + draft.piece.start for draft in drafts[1:]), last]
    segments = []
    floor = offset
    for draft, next_start in zip(drafts, next_starts, strict=False):  # one more when there are none
        start = _clamp(offset + draft.piece.start, floor, last)
        end = _clamp(offset + draft.piece.end, start, max(start, min(next_start, last)))
        segments.append(
            Segment(
                start=start,
                end=end,
                text=draft.text,
                words=tuple(
                    replace(
                        word,
                        start=_clamp(offset + word.start, start, end),
                        end=_clamp(offset + word.end, start, end),
                        probability=round(word.probability, 4),
                    )
                    for word in draft.words
                ),
                avg_logprob=round(draft.generation.avg_logprob, 4),
                no_speech_prob=round(draft.generation.no_speech_prob, 4),
                compression_ratio=round(draft.generation.compression_ratio, 4),
            )
        )
        floor = end
    return tuple(segments)


def _clamp(value: float, low: float, high: float) -> float:
    return round(min(max(value, low), high), 3)
