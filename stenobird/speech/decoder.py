"""One window in, its segments out: a single pass of Whisper on faster-whisper's parts.

`WhisperModel.transcribe` encodes a window once for each stretch it re-seeks, and `BatchedInferencePipeline`
has no fallback and no no-speech check. This decoder encodes once, checks, and says where the next window
begins: where the text that it keeps ends.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import ctranslate2
import numpy as np
import numpy.ma  # np.median imports it, which a sealed host may not
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.confidence import segment_confidence, word_confidence
from stenobird.speech.keywords import spell
from stenobird.speech.language import LanguageState, follow
from stenobird.speech.protocol import DecodedWindow
from stenobird.speech.segments import (
    REST_SPEECH_SECONDS,
    Piece,
    compression_ratio,
    group_sentences,
    is_invented,
    is_spoken,
    overlap,
    pause_near,
    settled_tokens,
    split_at_timestamps,
    whole_pieces,
)
from stenobird.speech.windows import quietest
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stenobird.speech.protocol import WindowRequest
    from stenobird.speech.windows import Span

MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6
TOKENS_AT_LEAST = 20
TOKENS_A_SECOND = 12.0
EARLY_TOKENS = 28
"""What the first, short generation of a job may write."""
EARLY_MIN_LOGPROB = -0.8
KEPT_ENCODINGS = 4
"""Encoded windows that are kept from their early request to their full one."""
RESUME_NEAR_SECONDS = (-0.2, 0.05)
"""Without a pause, the next window starts where it is quietest between these, counted from the end of the
text: the model's times are accurate to about a tenth of a second."""

_WINDOW_SAMPLES = 30 * SAMPLE_RATE
_MAX_LENGTH = 448
_PREPEND = "\"'“¿([{-"
_ENCODED_FRAMES_A_SECOND = 50
_ALIGNMENT_PAD_SECONDS = 0.2
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
    known: bool = False
    """Whether an earlier result has it already."""
    words: tuple[Word, ...] = ()


class WhisperDecoder:
    """A loaded model. `decode` may be called from as many threads as there are replicas.

    On CPU each replica has one thread and the replicas share the weights; on CUDA one call takes a batch.
    A window that is alone on CPU is encoded by an instance with a thread for each replica, which gives the
    same bits. So the same request gives the same answer on CPU, whatever else is being decoded.
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
        self._wide: WhisperModel | None = None
        if device == "cpu" and replicas > 1:
            self._wide = WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=replicas,
                local_files_only=True,
            )
        self._busy = 0
        self._lock = threading.Lock()
        self._encodings: dict[bytes, Encoded] = {}
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
        with self._lock:
            self._busy += 1
        try:
            encoded = self._encode_all(requests)
        finally:
            with self._lock:
                self._busy -= 1
        languages = self._follow_languages(encoded, requests)
        tokenizers = [
            self._tokenizer(language, request.task)
            for request, (language, _) in zip(requests, languages, strict=True)
        ]
        generations = self._generate(encoded, requests, tokenizers)
        decoded = []
        for i, request in enumerate(requests):
            again = generations[i].weak or request.word_timestamps or request.unfinished_tail
            one = _rows(encoded, [i]) if again else encoded
            decode = self._early if request.early else self._window
            window = decode(one, request, tokenizers[i], generations[i])
            language, state = languages[i]
            decoded.append(replace(window, language=language, language_state=state))
        return decoded

    def _encode_all(self, requests: Sequence[WindowRequest]) -> Encoded:
        if len(requests) > 1:
            return self._encode([request.pcm for request in requests])
        (request,) = requests
        key = hashlib.blake2b(request.pcm.tobytes(), digest_size=16).digest()
        with self._lock:
            encoded = self._encodings.pop(key, None)
        if encoded is None:
            encoded = self._encode([request.pcm])
        if request.early:
            with self._lock:
                self._encodings[key] = encoded
                while len(self._encodings) > KEPT_ENCODINGS:
                    del self._encodings[next(iter(self._encodings))]
        return encoded

    def _encode(self, regions: Sequence[np.ndarray[Any, np.dtype[np.int16]]]) -> Encoded:
        """Return the encoder's output. The PCM is padded, not the features: zero features are not silence."""
        features = []
        for pcm in regions:
            audio = np.zeros(_WINDOW_SAMPLES, np.float32)
            audio[: len(pcm)] = pcm[:_WINDOW_SAMPLES] / np.float32(32768.0)
            features.append(self._model.feature_extractor(audio, padding=0))
        alone = self._wide is not None and self._busy == 1
        return (self._wide if alone and self._wide else self._model).encode(np.stack(features))

    def _follow_languages(
        self, encoded: Encoded, requests: Sequence[WindowRequest]
    ) -> list[tuple[str, LanguageState]]:
        if all(request.language is not None for request in requests):
            return [(request.language or "", LanguageState()) for request in requests]
        found = self._model.model.detect_language(encoded)
        languages = []
        for request, rows in zip(requests, found, strict=True):
            if request.language is not None:
                languages.append((request.language, LanguageState()))
                continue
            seconds = sum(end - start for start, end in request.speech) / SAMPLE_RATE
            probabilities = {token[2:-2]: probability for token, probability in rows}
            languages.append(follow(request.language_state, probabilities, seconds))
        return languages

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        key = (language, task)
        if key not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[key] = Tokenizer(
                self._model.hf_tokenizer, multilingual, task=task, language=language
            )
        return self._tokenizers[key]

    def _prompt(self, request: WindowRequest, tokenizer: Tokenizer) -> list[int]:
        before = " ".join(filter(None, ((request.prompt or "").strip(), request.context.strip())))
        previous = tokenizer.encode(" " + before) if before else []
        return [*self._model.get_prompt(tokenizer, previous), *request.prefix]

    def _generate(
        self, encoded: Encoded, requests: Sequence[WindowRequest], tokenizers: Sequence[Tokenizer]
    ) -> list[_Generation]:
        """Decode in batches of windows whose prompts have the same length, as CTranslate2 requires."""
        prompts = [self._prompt(r, t) for r, t in zip(requests, tokenizers, strict=True)]
        alike: dict[tuple[int, bool], list[int]] = {}
        for i, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
            alike.setdefault((len(prompt), request.early), []).append(i)
        generations: dict[int, _Generation] = {}
        for rows in alike.values():
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
        budget = EARLY_TOKENS if requests[0].early else TOKENS_AT_LEAST + int(TOKENS_A_SECOND * seconds)
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
        for result, request, tokenizer in zip(results, requests, tokenizers, strict=True):
            tokens = result.sequences_ids[0]  # starts with the prefix
            text = tokenizer.decode(tokens[len(request.prefix) :]).strip()
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

        The text before it goes first, which may be what misled the model. Nothing is sampled, so that a
        resumed run gives the text of an undisturbed one.
        """
        if first.weak and request.context:
            request = replace(request, context="")
            first = self._generate(encoded, [request], [tokenizer])[0]
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

    def _early(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, generation: _Generation
    ) -> DecodedWindow:
        """Return the first sentences of a window that more text would not change, and their tokens."""
        speech = _seconds(request.speech)
        count = settled_tokens(
            generation.tokens,
            timestamp_begin=tokenizer.timestamp_begin,
            eot=tokenizer.eot,
            decode=tokenizer.decode,
            speech=speech,
        )
        sure = generation.avg_logprob > EARLY_MIN_LOGPROB and len(generation.tokens) >= EARLY_TOKENS - 2
        if not count or not sure:
            return DecodedWindow((), "")
        generation = replace(generation, tokens=generation.tokens[:count])
        drafts = self._drafts(encoded, request, tokenizer, generation)
        if not all(is_spoken(d.piece.start, d.piece.end, speech) for d in drafts):
            return DecodedWindow((), "")
        return DecodedWindow(
            _segments(drafts, request, tokenizer.language_code, None), "", prefix=generation.tokens
        )

    def _window(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, generation: _Generation
    ) -> DecodedWindow:
        speech = _seconds(request.speech)
        duration = len(request.pcm) / SAMPLE_RATE
        generation = self._retried(encoded, request, tokenizer, generation)
        if generation.silent:
            generation = replace(generation, tokens=request.prefix)
        drafts = [
            draft
            for draft in self._drafts(encoded, request, tokenizer, generation)
            if draft.known or _is_said(draft, speech, tokenizer.language_code)
        ]
        resume = None
        if request.unfinished_tail:
            kept = whole_pieces([(d.piece, d.text) for d in drafts], duration=duration)
            if not kept and drafts and request.context:
                # Text before the window can lead the model to write it as one piece without any times.
                request = replace(request, context="")
                again = self._generate(encoded, [request], [tokenizer])[0]
                return self._window(encoded, request, tokenizer, again)
            if kept:
                drafts = drafts[:kept]
                resume = _resume_sample(request, drafts[-1].piece.end)
        elif drafts and drafts[-1].piece.closed:
            end = drafts[-1].piece.end
            if overlap(end, duration, speech) >= REST_SPEECH_SECONDS:  # the model stopped early
                resume = _resume_sample(request, end)
        return DecodedWindow(
            _segments(drafts, request, tokenizer.language_code, resume), "", resume_sample=resume
        )

    def _drafts(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, generation: _Generation
    ) -> list[_Draft]:
        duration = len(request.pcm) / SAMPLE_RATE
        marks = {"timestamp_begin": tokenizer.timestamp_begin, "eot": tokenizer.eot, "duration": duration}
        known = len(split_at_timestamps(request.prefix, **marks))
        drafts = [
            _Draft(piece, tokenizer.decode(piece.tokens), generation, known=i < known)
            for i, piece in enumerate(split_at_timestamps(generation.tokens, **marks))
        ]
        drafts = [draft for draft in drafts if draft.text.strip() and draft.piece.end > draft.piece.start]
        self._spell_keywords(encoded, request, tokenizer, [draft for draft in drafts if not draft.known])
        if drafts and request.word_timestamps:
            self._add_words(encoded, tokenizer, drafts, duration)
        return drafts

    def _spell_keywords(
        self, encoded: Encoded, request: WindowRequest, tokenizer: Tokenizer, drafts: list[_Draft]
    ) -> None:
        # The model spells what is one token of its vocabulary as is usual.
        rare = [name for name in request.names if len(tokenizer.encode(" " + name)) > 1]
        keywords = (*request.keywords, *rare)
        if not keywords:
            return

        def biased(keywords: list[str]) -> str:
            prompt = " ".join(filter(None, (request.prompt, ", ".join(keywords) + ".")))
            return self._generate(encoded, [replace(request, prompt=prompt)], [tokenizer])[0].text

        for draft, text in zip(drafts, spell([d.text for d in drafts], keywords, biased), strict=True):
            if text != draft.text:
                draft.text = text
                draft.piece = replace(draft.piece, tokens=tuple(tokenizer.encode(text)))

    def _add_words(
        self, encoded: Encoded, tokenizer: Tokenizer, drafts: list[_Draft], duration: float
    ) -> None:
        """Align each segment's words with the part of the encoder's output that it covers.

        The whole window would do for a complete text, but the first words of a window are decoded alone, and
        would be stretched over all of it.
        """
        host = encoded.to_device(ctranslate2.Device.cpu).to(ctranslate2.DataType.float32)
        frames = np.array(host)  # shape (1, 1500, width), 50 a second
        for draft in drafts:
            piece = draft.piece
            first = max(0, int((piece.start - _ALIGNMENT_PAD_SECONDS) * _ENCODED_FRAMES_A_SECOND))
            last = int((min(piece.end + _ALIGNMENT_PAD_SECONDS, duration)) * _ENCODED_FRAMES_A_SECOND) + 1
            part = ctranslate2.StorageView.from_array(np.ascontiguousarray(frames[:, first:last]))
            offset = first / _ENCODED_FRAMES_A_SECOND
            row: dict[str, Any] = {
                "seek": 0,
                "start": piece.start - offset,
                "end": piece.end - offset,
                "tokens": list(piece.tokens),
            }
            self._model.add_word_timestamps(
                [[row]], tokenizer, part, 2 * part.shape[1], _PREPEND, _APPEND, last_speech_timestamp=0.0
            )
            draft.words = tuple(
                Word(
                    float(word["start"]) + offset,
                    float(word["end"]) + offset,
                    word["word"],
                    float(word["probability"]),
                )
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


def _is_said(draft: _Draft, speech: Sequence[tuple[float, float]], language: str) -> bool:
    start, end = draft.piece.start, draft.piece.end
    return is_spoken(start, end, speech) and not is_invented(
        draft.text,
        language,
        avg_logprob=draft.generation.avg_logprob,
        no_speech_prob=draft.generation.no_speech_prob,
        speech_seconds=overlap(start, end, speech),
    )


def _seconds(speech: Sequence[Span]) -> list[tuple[float, float]]:
    return [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in speech]


def _resume_sample(request: WindowRequest, seconds: float) -> int:
    """Return the sample of the source at which the window after a kept segment begins."""
    pause = pause_near(seconds, _seconds(request.speech))
    if pause is not None:
        return request.start_sample + round((pause[0] + pause[1]) / 2 * SAMPLE_RATE)
    first, last = (round((seconds + offset) * SAMPLE_RATE) for offset in RESUME_NEAR_SECONDS)
    return request.start_sample + quietest(request.pcm, max(0, first), min(last, len(request.pcm)))


def _segments(
    drafts: list[_Draft], request: WindowRequest, language: str, resume: int | None
) -> tuple[Segment, ...]:
    """Return the new drafts as sentences with times of the source, in order and within the region."""
    offset = request.start_sample / SAMPLE_RATE
    last = (request.start_sample + len(request.pcm) if resume is None else resume) / SAMPLE_RATE
    floor = offset + max((draft.piece.end for draft in drafts if draft.known), default=0.0)
    drafts = [draft for draft in drafts if not draft.known]
    groups = group_sentences(
        [(draft.piece.start, draft.piece.end, draft.text) for draft in drafts], _seconds(request.speech)
    )
    segments = []
    for first, after in groups:
        group = drafts[first:after]
        limit = offset + drafts[after].piece.start if after < len(drafts) else last
        start = _clamp(offset + group[0].piece.start, floor, last)
        end = _clamp(offset + group[-1].piece.end, start, max(start, min(limit, last)))
        generation = group[0].generation
        segments.append(
            Segment(
                start=start,
                end=end,
                text="".join(draft.text for draft in group),
                words=tuple(
                    replace(
                        word,
                        start=_clamp(offset + word.start, start, end),
                        end=_clamp(offset + word.end, start, end),
                        probability=round(word.probability, 4),
                        confidence=word_confidence(word.probability, draft.generation.avg_logprob, language),
                    )
                    for draft in group
                    for word in draft.words
                ),
                avg_logprob=round(generation.avg_logprob, 4),
                no_speech_prob=round(generation.no_speech_prob, 4),
                compression_ratio=round(generation.compression_ratio, 4),
                language=language,
                confidence=segment_confidence(generation.avg_logprob, language),
            )
        )
        floor = end
    return tuple(segments)


def _clamp(value: float, low: float, high: float) -> float:
    return round(min(max(value, low), high), 3)
