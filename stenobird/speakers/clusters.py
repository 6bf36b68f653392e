"""Which voices are the same person's: clusters of embeddings by their centers, without chance."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.speakers.voices import Voice

SAME_SPEAKER: Final = 0.72
"""Cosine between the centers of two groups of voices above which they are one person."""
_OTHER_SPEAKER: Final = 0.4
"""A voice that was heard once, or briefly, is a speaker if it is less like all others than this."""
_MIXTURE: Final = 0.7
"""Cosine between a voice and the plane of two others above which it is a mixture of them."""
_FEW_VOICES: Final = 4
"""Chance makes no larger group of mixtures."""
_SURE_SECONDS: Final = 3.0
"""A group of several voices with so much speech is a speaker in any case."""
_TRUSTED_SECONDS: Final = 1.5
"""Voices with less speech don't form groups: they join the group that they are most like."""
_MOST_POINTS: Final = 400
"""More voices than this are first joined to the nearest earlier one, which bounds memory and time."""
_CANDIDATES: Final = 3
"""A window has at most three voices, so that one of a voice's three most likely speakers is free."""
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
    vectors = np.stack([voice.embedding for voice in known if voice.embedding is not None], dtype=np.float32)
    seconds = np.array([voice.seconds for voice in known], np.float32)
    trusted = np.flatnonzero(seconds >= min(_TRUSTED_SECONDS, seconds.max()))
    origins = np.array([number for number, _ in places])
    groups = _grouped(vectors[trusted], seconds[trusted], origins[trusted], least or 1, most)
    centers = _centers(vectors, seconds, [trusted[group] for group in groups])
    likeness = vectors @ centers.T
    best = np.argsort(-likeness, axis=1, kind="stable")[:, :_CANDIDATES]
    row = 0
    for number, voices in enumerate(windows):
        embedded = [place for place, voice in enumerate(voices) if voice.embedding is not None]
        rows = slice(row, row + len(embedded))
        row = rows.stop
        chosen = _matched(likeness[rows], best[rows], [voices[place].seconds for place in embedded])
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
    sums = np.stack([_sum(vectors, seconds, group) for group in members])
    units = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    alike = units @ units.T
    if len(members) == len(vectors):
        alike[origins[:, None] == origins[None, :]] = _APART
    np.fill_diagonal(alike, -np.inf)
    live = len(members)
    while live > max(1, least):
        first, second = sorted(int(i) for i in np.unravel_index(alike.argmax(), alike.shape))
        if alike[first, second] < SAME_SPEAKER and (most is None or live <= most):
            break
        sums[first] += sums[second]
        units[first] = sums[first] / np.linalg.norm(sums[first])
        gone = np.isneginf(alike[first])
        gone[[first, second]] = True
        likeness = np.where(gone, -np.inf, units @ units[first])
        alike[first], alike[:, first] = likeness, likeness
        alike[second], alike[:, second] = -np.inf, -np.inf
        members[first] = np.concatenate([members[first], members[second]])
        members[second] = members[second][:0]
        live -= 1
    groups = [group for group in members if len(group)]
    return _speakers(vectors, seconds, groups, least)


def _speakers(
    vectors: _Vectors, seconds: npt.NDArray[np.float32], groups: list[npt.NDArray[np.int64]], least: int
) -> list[npt.NDArray[np.int64]]:
    """Return the groups that are speakers, by first appearance: at least `least` if there are as many."""
    amounts = [float(seconds[group].sum()) for group in groups]
    centers = _centers(vectors, seconds, groups)
    largest = sorted(range(len(groups)), key=lambda one: (-amounts[one], one))
    chosen = largest[:1]
    for sure in (True, False):
        for one in largest:
            well_heard = len(groups[one]) > 1 and amounts[one] >= _SURE_SECONDS
            if one in chosen or well_heard is not sure:
                continue
            others, center = centers[chosen], centers[one]
            mixed = len(groups[one]) <= _FEW_VOICES and _is_mixed(center, others)
            if not mixed and (sure or (others @ center).max() < _OTHER_SPEAKER):
                chosen.append(one)
    missing = [one for one in largest if one not in chosen]
    chosen += missing[: max(0, least - len(chosen))]
    return sorted((groups[one] for one in chosen), key=lambda group: int(group.min()))


def _is_mixed(center: _Vectors, others: _Vectors) -> bool:
    """Return whether a voice lies between two others: what is called one voice in a window may be two."""
    for one, other in itertools.combinations(others, 2):
        along = float(one @ other)
        first, second = float(one @ center), float(other @ center)
        # The squared length of the projection on the plane of both.
        if (first**2 + second**2 - 2 * along * first * second) / (1 - along**2 + 1e-9) > _MIXTURE**2:
            return True
    return False


def _centers(
    vectors: _Vectors, seconds: npt.NDArray[np.float32], groups: Sequence[npt.NDArray[np.int64]]
) -> _Vectors:
    """Return the direction of each group, of length 1; shape `(groups, embedding)`."""
    sums = np.stack([_sum(vectors, seconds, group) for group in groups])
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9), np.float32)


def _sum(vectors: _Vectors, seconds: npt.NDArray[np.float32], group: npt.NDArray[np.int64]) -> _Vectors:
    return np.asarray((vectors[group] * seconds[group, None]).sum(axis=0), np.float32)


def _joined(vectors: _Vectors) -> list[npt.NDArray[np.int64]]:
    """Return the voices one by one, or where there are too many, those very like an earlier one with it."""
    if len(vectors) <= _MOST_POINTS:
        return [np.array([place]) for place in range(len(vectors))]
    alike = 0.9
    leading = np.empty((_MOST_POINTS + 1, vectors.shape[1]), np.float32)
    while True:
        members: list[list[int]] = []
        for place, vector in enumerate(vectors):
            likeness = leading[: len(members)] @ vector
            if members and likeness[nearest := int(likeness.argmax())] >= alike:
                members[nearest].append(place)
            else:
                leading[len(members)] = vector
                members.append([place])
            if len(members) > _MOST_POINTS:
                break
        else:
            return [np.array(group) for group in members]
        alike -= 0.1


def _matched(likeness: _Vectors, best: npt.NDArray[np.int64], seconds: Sequence[float]) -> Sequence[int]:
    """Return the most likely speaker of each voice of a window, all different if there are enough."""
    voices, speakers = likeness.shape
    if voices > speakers or voices == 1:
        return [int(one) for one in best[:, 0]]
    return max(
        (choice for choice in itertools.product(*best.tolist()) if len(set(choice)) == voices),
        key=lambda choice: sum(likeness[v, s] * seconds[v] for v, s in enumerate(choice)),
    )
