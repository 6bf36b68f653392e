"""Which voices are the same person's: average-linkage clustering of embeddings, without chance."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.speakers.voices import Voice

SAME_SPEAKER: Final = 0.55
"""Mean cosine between two groups of voices above which they are one person."""
_TRUSTED_SECONDS: Final = 1.5
"""Voices with less speech don't form groups: they join the group that they are most like."""
_LEAST_SECONDS: Final = 2.0
"""A group with less speech is no speaker of its own."""
_MOST_POINTS: Final = 400
"""More voices than this are first joined to the nearest earlier one, which bounds memory and time."""
_APART: Final = -1.0
"""The similarity of two voices of one window: they are different persons."""

_Vectors = npt.NDArray[np.float32]


def cluster(
    windows: Sequence[Sequence[Voice]], *, least: int | None = None, most: int | None = None
) -> list[list[int]]:
    """Return a speaker's number for each voice of each window, by first appearance.

    `least` and `most` bound the number of speakers; fewer voices than `least` are so many speakers.
    """
    places = [
        (number, place)
        for number, voices in enumerate(windows)
        for place, voice in enumerate(voices)
        if voice.embedding is not None
    ]
    known = [windows[number][place] for number, place in places]
    labels = [[0] * len(voices) for voices in windows]
    if not known:
        return labels
    vectors = np.stack([voice.embedding for voice in known if voice.embedding is not None])
    seconds = np.array([voice.seconds for voice in known], np.float32)
    trusted = np.flatnonzero(seconds >= min(_TRUSTED_SECONDS, seconds.max()))
    origins = np.array([number for number, _ in places])
    groups = _grouped(vectors[trusted], seconds[trusted], origins[trusted], least or 1, most)
    centers = np.stack(
        [(vectors[trusted[group]] * seconds[trusted[group], None]).sum(axis=0) for group in groups]
    )
    centers /= np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-9)
    likeness = vectors @ centers.T
    row = 0
    for number, voices in enumerate(windows):
        embedded = [place for place, voice in enumerate(voices) if voice.embedding is not None]
        chosen = _matched(likeness[row : row + len(embedded)], [voices[place].seconds for place in embedded])
        row += len(embedded)
        for place, label in zip(embedded, chosen, strict=True):
            labels[number][place] = label
    return labels


def _grouped(
    vectors: _Vectors,
    seconds: npt.NDArray[np.float32],
    origins: npt.NDArray[np.int64],
    least: int,
    most: int | None,
) -> list[npt.NDArray[np.int64]]:
    """Return the members of each group, merging the two that are most alike until none are alike enough."""
    members = _joined(vectors)
    weights = np.array([seconds[group].sum() for group in members])
    sums = np.stack([(vectors[group] * seconds[group, None]).sum(axis=0) for group in members])
    alike = (sums @ sums.T) / np.outer(weights, weights)
    if len(members) == len(vectors):
        alike[origins[:, None] == origins[None, :]] = _APART
    np.fill_diagonal(alike, -np.inf)
    live = len(members)
    while live > max(1, least):
        first, second = sorted(int(i) for i in np.unravel_index(alike.argmax(), alike.shape))
        if alike[first, second] < SAME_SPEAKER and (most is None or live <= most):
            break
        total = weights[first] + weights[second]
        merged = (alike[first] * weights[first] + alike[second] * weights[second]) / total
        merged[first] = -np.inf
        alike[first], alike[:, first] = merged, merged
        alike[second], alike[:, second] = -np.inf, -np.inf
        weights[first], weights[second] = total, 0
        members[first] = np.concatenate([members[first], members[second]])
        members[second] = members[second][:0]
        live -= 1
    groups = sorted((group for group in members if len(group)), key=lambda group: int(group.min()))
    audible = [group for group in groups if seconds[group].sum() >= _LEAST_SECONDS]
    return audible if len(audible) >= max(1, least) else groups


def _joined(vectors: _Vectors) -> list[npt.NDArray[np.int64]]:
    """Return the voices one by one, or where there are too many, those very like an earlier one with it."""
    if len(vectors) <= _MOST_POINTS:
        return [np.array([place]) for place in range(len(vectors))]
    alike = 0.9
    while True:
        leaders: list[int] = []
        members: list[list[int]] = []
        for place, vector in enumerate(vectors):
            likeness = vectors[leaders] @ vector if leaders else np.empty(0)
            if leaders and likeness.max() >= alike:
                members[int(likeness.argmax())].append(place)
            else:
                leaders.append(place)
                members.append([place])
            if len(leaders) > _MOST_POINTS:
                break
        else:
            return [np.array(group) for group in members]
        alike -= 0.1


def _matched(likeness: _Vectors, seconds: Sequence[float]) -> Sequence[int]:
    """Return the most likely speaker of each voice of a window, all different if there are enough."""
    voices, speakers = likeness.shape
    if voices > speakers:
        return [int(best) for best in likeness.argmax(axis=1)]
    candidates = [sorted(range(speakers), key=lambda s: -row[s])[:3] for row in likeness]
    return max(
        (choice for choice in itertools.product(*candidates) if len(set(choice)) == voices),
        key=lambda choice: sum(likeness[v, s] * seconds[v] for v, s in enumerate(choice)),
    )
