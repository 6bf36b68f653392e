"""The demo's clip: a little radio show, host and guests, that reads like speech and not like a word list."""

from __future__ import annotations

import random

from tools.fixture_model.clip import ClipBuilder
from tools.fixture_model.synthesis import Delivery
from tools.fixture_model.vocabulary import (
    CITIES,
    farewell,
    greeting,
    introduction,
    scene,
    shopping,
    spelling,
    topic,
    whereabouts,
)

CAST = ("slt", "en-us+m3", "en-gb+f2", "rms", "en-gb-x-rp+m2", "en-us+f4")
"""Voices that are easy to tell apart and that the model hears well."""

GUESTS = 3
_STORY = (scene, scene, shopping, whereabouts)


def show(seed: int) -> ClipBuilder:
    """Return the show that a seed stands for, 60 to 90 seconds in most cases; the caller checks."""
    rng = random.Random(seed)
    host, *guests = (
        Delivery(voice, rng.randint(140, 170), rng.randint(35, 65)) for voice in rng.sample(CAST, GUESTS + 1)
    )
    clip = ClipBuilder()
    clip.say(greeting(rng), host, then_pause=_breath(rng))
    for guest in guests:
        clip.say(topic(rng, CITIES), host, then_pause=_turn(rng))
        clip.say(introduction(rng, CITIES), guest, then_pause=_breath(rng))
        for tell in rng.sample(_STORY, 3):
            clip.say(tell(rng), guest, then_pause=_breath(rng))
        clip.say(spelling(rng), guest, then_pause=_turn(rng))
    clip.say(farewell(rng), host, then_pause=0.8)
    return clip


def _breath(rng: random.Random) -> float:
    """Seconds between two sentences of one speaker."""
    return rng.uniform(0.3, 0.8)


def _turn(rng: random.Random) -> float:
    """Seconds between two speakers."""
    return rng.uniform(0.7, 1.4)
