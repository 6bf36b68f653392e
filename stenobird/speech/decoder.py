"""One window in, its segments out: a single pass of Whisper on faster-whisper's parts.

`WhisperModel.transcribe` encodes a window once for each stretch it re-seeks, and `BatchedInferencePipeline`
has no fallback and no no-speech check. This decoder encodes once, checks, and says where the next window
begins: where the text that it keeps ends.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from functools import cache
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
from stenobird.speech.language import (
    STRETCH_PROBABILITY,
    LanguageState,
    certain_language,
    first_language,
    follow,
    stretches,
)
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
    split_sentences,
    spoken_from,
    tokens_with_times,
    whole_pieces,
    with_times,
)
from stenobird.speech.windows import levelled, quietest
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from stenobird.ports import PCM
    from stenobird.speech.protocol import WindowRequest
    from stenobird.speech.windows import Span

MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6
TOKENS_AT_LEAST = 20
TOKENS_A_SECOND = 12.0
BEAM_SIZE = 5
EARLY_TOKENS = 28
"""What the first, short generation of a job may write."""
EARLY_MIN_LOGPROB = -0.8
POSSIBLE_LANGUAGE = 0.05
"""The least probability of a language that a job's first window is decoded in when its text is weak."""
KEPT_WINDOWS = 4
"""Encoded windows that are kept from their early request to their full one."""
RESUME_NEAR_SECONDS = (-0.2, 0.05)
"""Without a pause, the next window starts where it is quietest between these, counted from the end of the
text: the model's times are accurate to about a tenth of a second."""

_WINDOW_SAMPLES = 30 * SAMPLE_RATE
_FRAME_SAMPLES = SAMPLE_RATE // 100
_STRETCH_PAD_SAMPLES = SAMPLE_RATE // 10
_MAX_LENGTH = 448
_PREPEND = "\"'“¿([{-"
_ENCODED_FRAMES_A_SECOND = 50
_ALIGNMENT_PAD_SECONDS = 0.2
_APPEND = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001  # faster-whisper's defaults

SMALL_BYTES = 500_000_000
"""Models with a larger file are those above `small`."""

_NOTHING = np.empty(0, np.int16)

Encoded: TypeAlias = Any
"""A ctranslate2.StorageView, shape `(batch, 1500, width)`."""

_Spoken: TypeAlias = "tuple[str, LanguageState, int | None]"
"""A window's language, what is known after it, and the sample where another language begins."""


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


_Generating: TypeAlias = "Callable[[], list[_Generation]]"
"""Waits for the generations that have begun."""


@dataclass(frozen=True, slots=True)
class _Window:
    """A request in the language it is decoded in, with the subwords of that language."""

    request: WindowRequest
    tokenizer: Tokenizer

    @property
    def seconds(self) -> float:
        return len(self.request.pcm) / SAMPLE_RATE

    @property
    def speech(self) -> list[tuple[float, float]]:
        """The runs of speech in seconds."""
        return [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in self.request.speech]

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens of the text that was committed early."""
        return tuple(tokens_with_times(self.request.prefix, self.tokenizer))

    def changed(self, **fields: Any) -> _Window:
        """Return the same window with other fields of its request."""
        return replace(self, request=replace(self.request, **fields))


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
    """A loaded model. `decode` may be called from as many threads as there are workers.

    On CPU each replica has one thread and the replicas share the weights, so the same request gives the same
    answer whatever else is being decoded, in its batch too. Beside the replicas, a small model has a worker
    for what is urgent, and a copy that encodes a window with all threads when no other is being decoded, bit
    for bit the same. Text is generated with one thread: more of them are slower at such small steps.
    """

    def __init__(self, folder: Path, *, device: str, compute_type: str, replicas: int) -> None:
        def load(threads: int, workers: int) -> WhisperModel:
            return WhisperModel(
                str(folder),
                device=device,
                compute_type=compute_type,
                cpu_threads=threads,
                num_workers=workers,
                local_files_only=True,
            )

        self._device = device
        models = [load(*copy) for copy in copies(folder, device=device, replicas=replicas)]
        self._model, self._wide_encoder = models[0], models[-1]
        self._decoding = 0
        self._lock = threading.Lock()
        self._prepared: dict[bytes, tuple[Encoded, list[_Spoken], _Generating]] = {}
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
            self._decoding += 1
        try:
            return self._decode(requests)
        finally:
            with self._lock:
                self._decoding -= 1

    def _decode(self, requests: Sequence[WindowRequest]) -> list[DecodedWindow]:
        requests = [replace(request, pcm=levelled(request.pcm, request.speech)) for request in requests]
        key = _prepared_key(requests[0])
        with self._lock:
            prepared = self._prepared.pop(key, None) if len(requests) == 1 else None
        encoded, spoken = self._prepare(requests) if prepared is None else prepared[:2]
        windows = [
            _Window(_in_language(request, language, end), self._tokenizer(language, request.task))
            for request, (language, _, end) in zip(requests, spoken, strict=True)
        ]
        if len(windows) == 1 and windows[0].request.early:
            generations = self._generate_early(key, encoded, spoken, windows[0])
        else:
            generations = self._generate_whole(encoded, windows, prepared and prepared[2])
        decoded = []
        for i, request in enumerate(requests):
            one, window, generation = _rows(encoded, [i]), windows[i], generations[i]
            language, state, end = spoken[i]
            open_language = request.language is None and request.language_state.language is None
            if generation.weak and open_language and not request.early:
                window, generation = self._in_other_languages(one, window, generation)
                language = window.tokenizer.language_code
                state = state if state.language is None else LanguageState(language)
            found = (self._early if request.early else self._whole)(one, window, generation)
            if found.resume_sample is None and end is not None:
                found = replace(found, resume_sample=request.start_sample + end)
            decoded.append(replace(found, language=language, language_state=state))
        return decoded

    def _prepare(self, requests: Sequence[WindowRequest]) -> tuple[Encoded, list[_Spoken]]:
        """Return the encoder's output of what the windows decode, and their languages."""
        encoded = self._encode([request.pcm for request in requests])
        spoken = self._follow_languages(encoded, requests)
        if any(end is not None for *_, end in spoken):
            encoded = self._encode([r.pcm[:end] for r, (*_, end) in zip(requests, spoken, strict=True)])
        return encoded, spoken

    def _encode(self, regions: Sequence[np.ndarray[Any, np.dtype[np.int16]]]) -> Encoded:
        """Return the encoder's output. The PCM is padded, not the features: zero features are not silence."""
        features = []
        for pcm in regions:
            audio = np.zeros(_WINDOW_SAMPLES, np.float32)
            audio[: len(pcm)] = pcm[:_WINDOW_SAMPLES] / np.float32(32768.0)
            features.append(self._model.feature_extractor(audio, padding=0))
        if self._device == "cuda":
            return self._encode_features(np.stack(features))
        # Together they would take more memory and no less time.
        rows = [_on_host(self._encode_features(each[np.newaxis])) for each in features]
        return ctranslate2.StorageView.from_array(np.concatenate(rows))

    def _encode_features(self, features: np.ndarray[Any, np.dtype[np.float32]]) -> Encoded:
        with self._lock:
            alone = self._decoding == 1
        return (self._wide_encoder if alone else self._model).encode(features)

    def _follow_languages(self, encoded: Encoded, requests: Sequence[WindowRequest]) -> list[_Spoken]:
        open_language = any(request.language is None for request in requests)
        detected = self._detect(encoded) if open_language else [{} for _ in requests]
        return [
            (request.language, LanguageState(), None)
            if request.language is not None
            else self._follow_language(request, probabilities)
            for request, probabilities in zip(requests, detected, strict=True)
        ]

    def _detect(self, encoded: Encoded) -> list[dict[str, float]]:
        """Return the probability of each language, of each window."""
        return [
            {token[2:-2]: probability for token, probability in rows}
            for rows in self._model.model.detect_language(encoded)
        ]

    def _follow_language(self, request: WindowRequest, probabilities: Mapping[str, float]) -> _Spoken:
        seconds = sum(end - start for start, end in request.speech) / SAMPLE_RATE
        language, state = follow(request.language_state, probabilities, seconds)
        parts = stretches(request.speech)
        stretch = cache(lambda number: self._stretch(request.pcm, parts[number]))
        if len(parts) < 2 or (
            probabilities[language] >= STRETCH_PROBABILITY
            and certain_language(stretch(len(parts) - 1)) == language
            and (language == request.language_state.language or certain_language(stretch(0)) == language)
        ):
            return language, state, None
        found = [stretch(number) for number in range(len(parts))]
        first, changed = first_language(found, request.language_state.language)
        if first is not None and first != language and any(certain_language(each) for each in found):
            language, state = first, LanguageState(first)
        if changed is None:
            return language, state, None
        return language, state, (parts[changed - 1][1] + parts[changed][0]) // 2

    def _stretch(self, pcm: PCM, part: Span) -> dict[str, float]:
        """Return the probabilities of the languages of a stretch of speech. Only that much is encoded."""
        start, end = part[0] - _STRETCH_PAD_SAMPLES, part[1] + _STRETCH_PAD_SAMPLES
        audio = pcm[max(0, start) : min(end, start + _WINDOW_SAMPLES)].astype(np.float32) / 32768.0
        # Two frames make one position of the encoder's output.
        audio = np.pad(audio, (0, -len(audio) % (2 * _FRAME_SAMPLES)))
        features = self._model.feature_extractor(audio, padding=0)
        return self._detect(self._encode_features(features[np.newaxis]))[0]

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        key = (language, task)
        if key not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[key] = Tokenizer(
                self._model.hf_tokenizer, multilingual, task=task, language=language
            )
        return self._tokenizers[key]

    def _prompt(self, window: _Window) -> list[int]:
        prompt = (window.request.prompt or "").strip()
        previous = window.tokenizer.encode(" " + prompt) if prompt else []
        previous = [*previous, *tokens_with_times(window.request.context, window.tokenizer)]
        return [*self._model.get_prompt(window.tokenizer, previous), *window.prefix]

    def _generate_early(
        self, key: bytes, encoded: Encoded, spoken: list[_Spoken], window: _Window
    ) -> list[_Generation]:
        """Generate a window's first tokens, and begin to generate all of them on a replica that is idle.

        That, and what is encoded, is kept for the request for the whole window, which comes next.
        """
        prompts = [self._prompt(window)]
        first = self._submit(encoded, [window], prompts)
        whole = self._submit(encoded, [window.changed(early=False)], prompts)
        with self._lock:
            self._prepared[key] = encoded, spoken, whole
            while len(self._prepared) > KEPT_WINDOWS:
                del self._prepared[next(iter(self._prepared))]
        return first()

    def _generate_whole(
        self, encoded: Encoded, windows: Sequence[_Window], begun: _Generating | None
    ) -> list[_Generation]:
        """Generate windows without their prefixes; where the tokens don't begin with its prefix, with it."""
        free = [window.changed(prefix="") for window in windows]
        generations = self._generate(encoded, free) if begun is None else begun()
        for i, (window, generation) in enumerate(zip(windows, generations, strict=True)):
            prefix = window.prefix
            if generation.tokens[: len(prefix)] != prefix:
                [generations[i]] = self._generate(_rows(encoded, [i]), [window])
            elif prefix:
                # What is judged is the text that is new, as if it had been generated from the prefix.
                text = window.tokenizer.decode(generation.tokens[len(prefix) :]).strip()
                generations[i] = replace(generation, text=text, compression_ratio=compression_ratio(text))
        return generations

    def _generate(
        self, encoded: Encoded, windows: Sequence[_Window], **constraints: float
    ) -> list[_Generation]:
        """Decode in batches of windows that have prompts of the same length, and one limit."""
        prompts = [self._prompt(window) for window in windows]
        alike: dict[tuple[int, int], list[int]] = {}
        for i, (prompt, window) in enumerate(zip(prompts, windows, strict=True)):
            alike.setdefault((len(prompt), _max_length(window, prompt)), []).append(i)
        generations: dict[int, _Generation] = {}
        for rows in alike.values():
            batch, alike_prompts = [windows[i] for i in rows], [prompts[i] for i in rows]
            found = self._submit(_rows(encoded, rows), batch, alike_prompts, **constraints)
            generations |= zip(rows, found(), strict=True)
        return [generations[i] for i in range(len(prompts))]

    def _submit(
        self, encoded: Encoded, windows: Sequence[_Window], prompts: Sequence[list[int]], **constraints: float
    ) -> _Generating:
        """Begin to decode windows that have prompts of the same length and one limit; return what waits."""
        results = self._model.model.generate(
            encoded,
            prompts,
            beam_size=BEAM_SIZE,
            max_length=_max_length(windows[0], prompts[0]),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            max_initial_timestamp_index=50,
            asynchronous=True,
            **constraints,
        )

        def generations() -> list[_Generation]:
            found = []
            for pending, window in zip(results, windows, strict=True):
                result = pending.result()
                tokens = result.sequences_ids[0]  # starts with the prefix
                text = window.tokenizer.decode(tokens[len(window.prefix) :]).strip()
                # The score is the mean over the tokens without the end token; Whisper counts that one too.
                logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
                found.append(
                    _Generation(tuple(tokens), text, logprob, result.no_speech_prob, compression_ratio(text))
                )
            return found

        return generations

    def _in_other_languages(
        self, encoded: Encoded, window: _Window, weak: _Generation
    ) -> tuple[_Window, _Generation]:
        """Decode a job's first window, which is weak, in the other languages that it may be in.

        Return the likeliest text that is not weak. Accents and noise mislead the detection of languages, and
        in the wrong one Whisper goes round in circles.
        """
        found = [(window, weak)]
        for language, probability in self._detect(encoded)[0].items():
            if probability >= POSSIBLE_LANGUAGE and language != window.tokenizer.language_code:
                other = replace(window, tokenizer=self._tokenizer(language, window.request.task))
                found.append((other, self._generate(encoded, [other])[0]))
        return max(found, key=lambda one: (not one[1].weak, one[1] is weak, one[1].avg_logprob))

    def _retried(self, encoded: Encoded, window: _Window, first: _Generation) -> _Generation:
        """Decode a doubtful window once more, without repetitions, and return the better of the two.

        The text before it goes first, which may be what misled the model. Nothing is sampled, so that a
        resumed run gives the text of an undisturbed one.
        """
        if first.weak and window.request.context:
            window = window.changed(context="")
            [first] = self._generate(encoded, [window])
        if not first.weak or first.silent:
            return first
        [second] = self._generate(encoded, [window], no_repeat_ngram_size=3, repetition_penalty=1.1)
        return max(first, second, key=lambda h: (h.compression_ratio <= MAX_COMPRESSION_RATIO, h.avg_logprob))

    def _early(self, encoded: Encoded, window: _Window, generation: _Generation) -> DecodedWindow:
        """Return the first sentences of a window that more text would not change, and their tokens."""
        speech = window.speech
        count = settled_tokens(generation.tokens, window.tokenizer, speech)
        sure = not generation.weak and generation.avg_logprob > EARLY_MIN_LOGPROB
        if not count or not sure or len(generation.tokens) < EARLY_TOKENS - 2:
            return DecodedWindow((), "")
        generation = replace(generation, tokens=generation.tokens[:count])
        drafts = _drafts(window, generation)
        if not all(is_spoken(d.piece.start, d.piece.end, speech) for d in drafts):
            return DecodedWindow((), "")
        segments = self._segments(encoded, window, drafts)
        return DecodedWindow(segments, "", context=_context(drafts))

    def _whole(self, encoded: Encoded, window: _Window, generation: _Generation) -> DecodedWindow:
        request, speech, duration = window.request, window.speech, window.seconds
        generation = self._retried(encoded, window, generation)
        if generation.silent:
            generation = replace(generation, tokens=window.prefix)
        drafts = [
            draft
            for draft in _drafts(window, generation)
            if draft.known or _is_said(draft, speech, window.tokenizer.language_code)
        ]
        resume = None
        end = drafts[-1].piece.end if drafts and drafts[-1].piece.closed else duration
        stopped_early = overlap(end, duration, speech) >= REST_SPEECH_SECONDS
        if request.unfinished_tail or stopped_early:
            kept = whole_pieces([(d.piece, d.text) for d in drafts], duration=duration)
            if not kept and drafts and request.unfinished_tail and request.context:
                # Text before the window can lead the model to write it as one piece without any times.
                window = window.changed(context="")
                return self._whole(encoded, window, self._generate(encoded, [window])[0])
            if kept:
                drafts = drafts[:kept]
            if kept or stopped_early:
                resume = _resume_sample(window, drafts[-1].piece.end)
        segments = self._segments(encoded, window, drafts, resume)
        context = _context(drafts, request.context)
        return DecodedWindow(segments, "", resume_sample=resume, context=context)

    def _segments(
        self, encoded: Encoded, window: _Window, drafts: Sequence[_Draft], resume: int | None = None
    ) -> tuple[Segment, ...]:
        """Return the drafts that are new as segments, with words if they are wanted."""
        new = [draft for draft in drafts if not draft.known]
        self._spell_keywords(encoded, window, new)
        speech, tokenizer = window.speech, window.tokenizer
        new = [
            replace(draft, piece=piece, text=tokenizer.decode(piece.tokens))
            for draft in new
            for piece in split_sentences(draft.piece, tokenizer.decode, speech)
        ]
        if new and window.request.word_timestamps:
            self._add_words(encoded, tokenizer, new)
        floor = max((draft.piece.end for draft in drafts if draft.known), default=0.0)
        return _sentences(new, window, floor, resume)

    def _spell_keywords(self, encoded: Encoded, window: _Window, drafts: list[_Draft]) -> None:
        request, tokenizer = window.request, window.tokenizer
        # The model spells what is one token of its vocabulary as is usual.
        rare = [name for name in request.names if len(tokenizer.encode(" " + name)) > 1]
        keywords = (*request.keywords, *rare)
        if not keywords:
            return

        def biased(keywords: list[str]) -> str:
            prompt = " ".join(filter(None, (request.prompt, ", ".join(keywords) + ".")))
            return self._generate(encoded, [window.changed(prompt=prompt)])[0].text

        for draft, text in zip(drafts, spell([d.text for d in drafts], keywords, biased), strict=True):
            if text != draft.text:
                draft.text = text
                draft.piece = replace(draft.piece, tokens=tuple(tokenizer.encode(text)))

    def _add_words(self, encoded: Encoded, tokenizer: Tokenizer, drafts: Sequence[_Draft]) -> None:
        """Align the text with the part of the encoder's output that it covers.

        With all of it, text that covers the first part only would be stretched.
        """
        first = int(max(0.0, drafts[0].piece.start - _ALIGNMENT_PAD_SECONDS) * _ENCODED_FRAMES_A_SECOND)
        last = int((drafts[-1].piece.end + _ALIGNMENT_PAD_SECONDS) * _ENCODED_FRAMES_A_SECOND) + 1
        part = ctranslate2.StorageView.from_array(np.ascontiguousarray(_on_host(encoded)[:, first:last]))
        rows: list[dict[str, Any]] = [
            {"seek": 2 * first, "start": d.piece.start, "end": d.piece.end, "tokens": list(d.piece.tokens)}
            for d in drafts
        ]
        self._model.add_word_timestamps(
            [rows], tokenizer, part, 2 * part.shape[1], _PREPEND, _APPEND, last_speech_timestamp=0.0
        )
        for draft, row in zip(drafts, rows, strict=True):
            draft.words = tuple(
                Word(float(word["start"]), float(word["end"]), word["word"], float(word["probability"]))
                for word in row.get("words", ())
            )


def is_small(folder: Path) -> bool:
    """Whether a model takes batches on CPU, and gets a copy for the encoder."""
    return (folder / "model.bin").stat().st_size <= SMALL_BYTES


def copies(folder: Path, *, device: str, replicas: int) -> list[tuple[int, int]]:
    """Return the threads and workers of the model that decodes, and of its copy that encodes if it has one.

    Where windows are decoded in batches, one worker more is for what is urgent.
    """
    small = device == "cpu" and is_small(folder)
    encoder = [(replicas, 1)] if small and replicas > 1 else []
    return [(1, replicas + small), *encoder]


def _prepared_key(request: WindowRequest) -> bytes:
    """Return the same key for an early request and the one for the whole window."""
    rest = replace(request, early=False, prefix="", pcm=_NOTHING)
    return hashlib.blake2b(request.pcm.tobytes() + repr(rest).encode(), digest_size=16).digest()


def _drafts(window: _Window, generation: _Generation) -> list[_Draft]:
    tokenizer, seconds = window.tokenizer, window.seconds
    known = len(split_at_timestamps(window.prefix, tokenizer, seconds))
    drafts = [
        _Draft(piece, tokenizer.decode(piece.tokens), generation, known=i < known)
        for i, piece in enumerate(split_at_timestamps(generation.tokens, tokenizer, seconds))
    ]
    return [draft for draft in drafts if draft.text.strip() and draft.piece.end > draft.piece.start]


def _context(drafts: Sequence[_Draft], before: str = "") -> str:
    return with_times(((draft.piece, draft.text) for draft in drafts), before)


def _in_language(request: WindowRequest, language: str, end: int | None) -> WindowRequest:
    """Return the part of a window that is in its language, without context in another one."""
    if language != (request.language_state.language or language):
        request = replace(request, context="")
    if end is None:
        return request
    speech = tuple((a, min(b, end)) for a, b in request.speech if a < end)
    return replace(request, pcm=request.pcm[:end], speech=speech, unfinished_tail=False)


def _max_length(window: _Window, prompt: Sequence[int]) -> int:
    whole = TOKENS_AT_LEAST + int(TOKENS_A_SECOND * window.seconds)
    tokens = EARLY_TOKENS if window.request.early else whole
    return length_for(tokens, prompt_tokens=len(prompt))


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
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(_on_host(encoded)[list(indices)]))


def _on_host(encoded: Encoded) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the encoder's output as an array, without a copy on CPU."""
    if encoded.device == "cuda":
        encoded = encoded.to_device(ctranslate2.Device.cpu)
    if encoded.dtype != ctranslate2.DataType.float32:
        encoded = encoded.to(ctranslate2.DataType.float32)
    return np.asarray(encoded)


def _is_said(draft: _Draft, speech: Sequence[tuple[float, float]], language: str) -> bool:
    start, end = draft.piece.start, draft.piece.end
    return is_spoken(start, end, speech) and not is_invented(
        draft.text,
        language,
        seconds=end - start,
        avg_logprob=draft.generation.avg_logprob,
        no_speech_prob=draft.generation.no_speech_prob,
        speech_seconds=overlap(start, end, speech),
    )


def _resume_sample(window: _Window, seconds: float) -> int:
    """Return the sample of the source at which the window after a kept segment begins."""
    request, pause = window.request, pause_near(seconds, window.speech)
    if pause is not None:
        return request.start_sample + round((pause[0] + pause[1]) / 2 * SAMPLE_RATE)
    first, last = (round((seconds + offset) * SAMPLE_RATE) for offset in RESUME_NEAR_SECONDS)
    return request.start_sample + quietest(request.pcm, max(0, first), min(last, len(request.pcm)))


def _sentences(
    drafts: Sequence[_Draft], window: _Window, floor: float, resume: int | None
) -> tuple[Segment, ...]:
    """Return sentences with times of the source, in order and within the region, none before `floor`."""
    request, speech, language = window.request, window.speech, window.tokenizer.language_code
    offset = request.start_sample / SAMPLE_RATE
    last = (request.start_sample + len(request.pcm) if resume is None else resume) / SAMPLE_RATE
    floor += offset
    groups = group_sentences(
        [(draft.piece.start, draft.piece.end, draft.text) for draft in drafts],
        speech,
        request.context + request.prefix,
    )
    segments = []
    for first, after in groups:
        group = drafts[first:after]
        words = [word for draft in group for word in draft.words]
        limit = offset + drafts[after].piece.start if after < len(drafts) else last
        begin, finish = spoken_from(group[0].piece.start, group[-1].piece.end, speech), group[-1].piece.end
        if words and words[0].start < words[-1].end:
            # Times of words are finer than the model's of segments.
            begin, finish = words[0].start, words[-1].end
            limit = last
        start = _clamp(offset + begin, floor, last)
        end = _clamp(offset + finish, start, max(start, min(limit, last)))
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
