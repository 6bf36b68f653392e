"""The fixture model's language: a closed vocabulary of 178 words and a small grammar over it."""

# ruff: noqa: SIM905  (word lists read better as text)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

DIGITS = (
    "zero one two three four five six seven eight nine ten eleven twelve "
    "twenty thirty forty fifty hundred thousand"
).split()
NATO = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey xray yankee zulu"
).split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = (
    "january february march april may june july august september october december"
).split()  # november is a letter of NATO
COLOURS = "red green blue yellow black white orange purple silver golden".split()
ANIMALS = "bird dog cat horse tiger eagle monkey rabbit dolphin spider elephant turtle".split()
CITIES = "london paris berlin madrid chicago boston".split()
SITES = "river mountain ocean island garden kitchen market station library museum".split()
PLACES = CITIES + SITES
FOODS = "coffee water bread butter apple banana pepper cheese sugar chocolate".split()
PEOPLE = "doctor teacher farmer sailor painter writer lawyer student captain engineer".split()
ADJECTIVES = "happy quiet famous simple modern ancient heavy little giant broken".split()
VERBS = "found carried painted visited followed remembered forgot opened studied delivered".split()
PREPOSITIONS = "near in at from".split()
FUNCTION_WORDS = (
    "the a and with in on at near from to of is was hello welcome back show today we are talking about "
    "this thank you for listening my name see next week good morning number question answer"
).split()

# The order is part of the seed's meaning: `sentence` draws from this list.
CONTENT_WORDS = (
    DIGITS + NATO + DAYS + MONTHS + COLOURS + ANIMALS + PLACES + FOODS + PEOPLE + ADJECTIVES + VERBS
)
WORDS = sorted(set(CONTENT_WORDS + FUNCTION_WORDS))


def scene(rng: random.Random) -> str:
    """Return who did what to which animal, and where."""
    pick = rng.choice
    return (
        f"the {pick(ADJECTIVES)} {pick(PEOPLE)} {pick(VERBS)} the {pick(COLOURS)} {pick(ANIMALS)} "
        f"{pick(PREPOSITIONS)} the {pick(SITES)}"
    )


def shopping(rng: random.Random) -> str:
    """Return what was done with how much food, on which day and in which city."""
    pick = rng.choice
    return (
        f"on {pick(DAYS)} we {pick(VERBS)} {pick(DIGITS)} {pick(FOODS)} and {pick(DIGITS)} {pick(FOODS)} "
        f"in {pick(CITIES)}"
    )


def spelling(rng: random.Random) -> str:
    """Return three to eight letters of the radio alphabet."""
    return " ".join(rng.choice(NATO) for _ in range(rng.randint(3, 8)))


def number(rng: random.Random) -> str:
    """Return a number read out word by word."""
    return "number " + " ".join(rng.choice(DIGITS) for _ in range(rng.randint(2, 6)))


def greeting(rng: random.Random) -> str:
    """Return the opening of a show."""
    return f"hello and welcome back to the {rng.choice(COLOURS)} {rng.choice(ANIMALS)} show"


def topic(rng: random.Random, places: Sequence[str] = PLACES) -> str:
    """Return what the show is about."""
    pick = rng.choice
    return f"today we are talking about the {pick(ADJECTIVES)} {pick(ANIMALS)} of {pick(places)}"


def introduction(rng: random.Random, places: Sequence[str] = PLACES) -> str:
    """Return the speaker's name and place."""
    return f"my name is {rng.choice(NATO)} and this is {rng.choice(places)}"


def farewell(rng: random.Random) -> str:
    """Return the end of a show."""
    return f"thank you for listening see you next {rng.choice([*DAYS, 'week'])}"


def whereabouts(rng: random.Random) -> str:
    """Return where somebody was, and from which month to which."""
    pick = rng.choice
    return f"the {pick(PEOPLE)} was in {pick(CITIES)} from {pick(MONTHS)} to {pick(MONTHS)}"


def word_list(rng: random.Random) -> str:
    """Return three to nine unrelated words: what the model finds hardest."""
    return " ".join(rng.choice(CONTENT_WORDS) for _ in range(rng.randint(3, 9)))


GRAMMAR = (
    (0.30, scene),
    (0.42, shopping),
    (0.52, spelling),
    (0.62, number),
    (0.68, greeting),
    (0.74, topic),
    (0.78, introduction),
    (0.82, farewell),
    (0.86, whereabouts),
    (1.00, word_list),
)
"""The kinds of sentence with the cumulative share of each in what the model was trained on."""


def sentence(rng: random.Random) -> str:
    """Return one sentence; the same state of `rng` always gives the same one."""
    share = rng.random()
    return next(make for limit, make in GRAMMAR if share < limit)(rng)
