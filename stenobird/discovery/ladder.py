"""The ladder: from a URL to the one audio behind it, rung by rung, with a verdict for each rung.

    normalise ─► platform rule (by host) ─► fetch + sniff ─► media: done
                                                          ├► feed: newest, or the episode named
                                                          └► page ─► candidates, scored
                                                                  ├► feed links + episode match
                                                                  ├► player iframes, depth 1
                                                                  ├► directory
                                                                  ├► extractor
                                                                  └► audio_source_not_found, with reasons

A wrong file is worse than none: an ambiguous result is refused, and the URL of an episode never leads to
another episode.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from stenobird.discovery import urls
from stenobird.discovery.feeds import episodes
from stenobird.discovery.outcome import failure, gone, refusal
from stenobird.discovery.page.candidates import THRESHOLD
from stenobird.discovery.page.players import one_each, player_frames
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedLead, FoundSource, MediaLead
from stenobird.discovery.parsing.lenient import strict_json, unescape_attribute
from stenobird.discovery.search import FEED_BYTES, Search
from stenobird.egress.references import absolute
from stenobird.errors import AudioSourceUnreachable, EgressError, JobError, WorkerTrouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from stenobird.discovery.feeds.episodes import Match
    from stenobird.discovery.parsing.facts import FeedFacts, PageFacts, Rung
    from stenobird.discovery.parsing.parser import DocumentParser
    from stenobird.discovery.platforms import PlatformRung
    from stenobird.discovery.search import SendRequest
    from stenobird.ports import FoundAudio, VerdictSink
    from stenobird.sources import Candidate, Stage

R = TypeVar("R")

MAX_FEEDS: Final = 2
MAX_FRAMES: Final = 2
MAX_REFRESHES: Final = 2
MAX_FEED_PAGES: Final = 4
"""Older pages of a feed that are searched for an episode."""
MAX_MOVES: Final = 2
"""New addresses of a feed that are followed."""
SEARCH_SECONDS: Final = 180.0
_FRAME_SOURCE: Final = re.compile(r"<iframe[^>]{0,2000}?\ssrc\s*=\s*[\"']([^\"']{1,4096})")
_NOTHING: Final[dict[Stage, str]] = {
    "resolving_directory": "The podcast directory lists nothing that fits.",
    "resolving_extractor": "No extractor finds audio at this URL.",
}


class DiscoveryLadder:
    """Implements `ports.AudioFinder`. Tasks may share it: each search has its own state.

    A search that takes longer than `SEARCH_SECONDS` fails with `AudioSourceUnreachable`.
    """

    def __init__(
        self,
        send: SendRequest,
        parser: DocumentParser,
        *,
        platforms: Sequence[PlatformRung] = (),
        directory: Rung | None = None,
        extractor: Rung | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._send = send
        self._parser = parser
        self._platforms = platforms
        self._beyond = tuple(filter(None, (directory, extractor)))
        self._now = now or (lambda: datetime.now(UTC))

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Return the one right audio. Raises a `JobError` that says what was tried."""
        search = Search(self._send, self._parser, url, preview=preview, sink=report)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(search.aclose)
            if not urls.is_audio_url(search.url):
                await self._parser.prepare()
            try:
                async with asyncio.timeout(SEARCH_SECONDS):
                    found = await _Climb(search, self._platforms, self._beyond, self._now()).run()
            except TimeoutError as exc:
                raise AudioSourceUnreachable(
                    f"Looking for the audio took longer than {SEARCH_SECONDS:g} s. Try again, or send"
                    " the direct audio URL."
                ) from exc
            # Only after the last report: until then, a cancelled search closes what it opened.
            search.hand_over(found)
            return found


class _Climb:
    """One search's way up the ladder. `beyond` are the directory and the extractor, those that there are."""

    def __init__(
        self,
        search: Search,
        platforms: Sequence[PlatformRung],
        beyond: Sequence[Rung],
        now: datetime,
    ) -> None:
        self._search = search
        self._platforms = platforms
        self._beyond = beyond
        self._now = now
        self._errors: list[JobError] = []
        self._page: PageFacts | None = None
        self._tried_feeds: set[str] = set()
        self._may_be_elsewhere = False
        """Whether the directory or the extractor may know what the URL itself does not give."""
        self._known_platform = False

    async def run(self) -> FoundAudio:
        """Climb until a rung has the audio, else raise the most helpful error."""
        search = self._search
        generic = True
        if (rule := self._rule_for(search.url)) is not None:
            self._known_platform = True
            answer = await self._try_rung(rule, search.url)
            generic = not answer.final
            if (found := await self._follow(answer, rule.stage)) is not None:
                return found
            if answer.failure is None:
                await search.report(rule.stage, "passed", f"{rule.name} has no audio that could be opened.")
        found = await self._from_url(generic=generic) or await self._from_elsewhere()
        if found is not None:
            return found
        if search.clip is not None and not search.clip.is_sample:
            return search.clip.found
        raise failure(search, self._errors, self._page)

    # --- rungs and leads ------------------------------------------------------------------------------------

    def _rule_for(self, url: str) -> PlatformRung | None:
        return next((rule for rule in self._platforms if rule.matches(url)), None)

    def _is_known(self, url: str) -> bool:
        return self._rule_for(url) is not None

    async def _try_rung(self, rung: Rung, url: str, *, keep_errors: bool = True) -> FoundSource:
        """Try a rung. Its failure is reported and kept for the end; it never ends the search."""
        try:
            answer = await rung.try_(self._search, url)
        except (JobError, EgressError) as exc:
            answer = FoundSource(failure=exc)
        if answer.failure is not None:
            if (trouble := WorkerTrouble.behind(answer.failure)) is not None:
                raise trouble from answer.failure
            await self._search.report(rung.stage, "failed", answer.failure.message)
            if keep_errors and isinstance(answer.failure, JobError):
                self._errors.append(answer.failure)
        return answer

    async def _follow(
        self,
        answer: FoundSource,
        stage: Stage,
        *,
        page_url: str | None = None,
        episode: EpisodeFacts | None = None,
    ) -> FoundAudio | None:
        """Follow a rung's leads. For a player on a page, `episode` is the page's; no show is meant then."""
        search = self._search
        if episode is None:
            search.wanted = answer.wanted.merged(search.wanted)
        if (found := await self._open(answer.media, page_url, found_at=stage)) is not None:
            return found
        for feed_lead in answer.feeds[:MAX_FEEDS]:
            meant = feed_lead
            if episode is not None:
                wanted = feed_lead.wanted.merged(answer.wanted).merged(episode)
                meant = replace(feed_lead, newest=False, wanted=wanted)
            if (found := await self._from_feed(meant, page_url)) is not None:
                return found
        return None

    async def _open(
        self, leads: Iterable[MediaLead], page_url: str | None, *, found_at: Stage | None = None
    ) -> FoundAudio | None:
        """Open the first lead that is audio; with `found_at`, report it under this stage."""
        for lead in leads:
            if (found := await self._search.try_media(lead, page_url=page_url)) is not None:
                if found_at is not None:
                    await self._search.report(found_at, "found", f"{lead.technique}: {lead.reason}.")
                return found
        return None

    # --- the submitted URL ----------------------------------------------------------------------------------

    async def _from_url(self, *, generic: bool) -> FoundAudio | None:
        search = self._search
        try:
            response, sniffed = await search.open_first()
        except EgressError as exc:
            self._errors.append(refusal(search.url, exc))
            await search.report("resolving_direct", "failed", exc.message)
            return None
        status, kind = response.status, sniffed.kind
        if kind in {"empty", "other"} and status < 400 and "refresh" in response.headers:
            kind = "html"
        if status >= 400 and not (status == 416 and kind == "empty"):
            # The directory may know a site that refuses this client, and the extractor may get in.
            self._may_be_elsewhere = status in {401, 403, 429, 503}
            error = refusal(search.url, status)
            self._errors.append(error)
            await search.report("resolving_direct", "failed", error.message)
            return None
        if kind in {"media", "playlist", "empty"}:
            return await self._from_direct(sniffed.container)
        if kind == "feed" or (kind in {"json", "other"} and not sniffed.container.startswith("status")):
            found = await self._from_submitted_feed(kind)
            if found is not None or kind == "feed":
                return found
        if kind == "html":
            self._may_be_elsewhere = True
            await search.report("resolving_direct", "passed", "The URL is a page, not media.")
            return await self._from_page(generic=generic)
        return None

    async def _from_direct(self, container: str) -> FoundAudio | None:
        lead = MediaLead(self._search.url, "direct", f"the URL itself is audio ({container})")
        found = await self._open([lead], None)
        if found is not None:
            await self._search.report("resolving_direct", "found", f"The URL itself is audio ({container}).")
        return found

    async def _from_submitted_feed(self, kind: str) -> FoundAudio | None:
        search = self._search
        feed = await self._attempt("resolving_feed", search.feed(search.url))
        if feed is None:
            reading = search.player_configuration(search.url, None) if kind == "json" else None
            data = await self._attempt("resolving_page", reading) if reading is not None else None
            if data is not None and (found := await self._from_candidates(data)) is not None:
                return found
            if kind != "feed":
                document = await search.submitted_document(FEED_BYTES)
                what = "data (JSON)" if kind == "json" else "no audio, page or feed"
                search.not_media.append((document.final_url, f"it is {what}"))
            return None
        self._tried_feeds.add(_feed_key(search.url))
        return await self._from_episode(feed, partial(episodes.choose_named, url=search.url))

    async def _attempt(self, stage: Stage, reading: Awaitable[R]) -> R | None:
        """Return what is read; `None`, with a report, if it can't be fetched."""
        try:
            return await reading
        except EgressError as exc:
            await self._search.report(stage, "failed", exc.message)
            return None

    # --- the page -------------------------------------------------------------------------------------------

    async def _from_page(self, *, generic: bool) -> FoundAudio | None:
        """Look for audio on the submitted page; without `generic`, only for feeds that it links to."""
        search = self._search
        page = await self._landing_page()
        if page is None:
            return None
        if urls.is_gone_home(search.url, page.final_url):
            self._may_be_elsewhere = False
            self._errors.append(gone(search.url))
            await search.report("resolving_page", "failed", self._errors[-1].message)
            return None
        self._page = page
        search.wanted = search.wanted.merged(page.episode)
        if not generic:
            return await self._from_feed_links(page, limit=MAX_FEEDS)
        found = await self._from_refresh(page) or await self._from_candidates(page)
        if found is not None:
            return found
        frames = player_frames(page.iframes, page.final_url, self._is_known)
        known = tuple(frame for frame in frames if self._is_known(frame))
        # The player of a known platform is more certain than a feed link, which may be the blog's feed.
        if len(known) == 1:
            found = await self._from_frames(page, known)
            frames = tuple(frame for frame in frames if frame not in known)
        # If a player is left to look into, two round trips allow one feed only.
        found = found or await self._from_feed_links(
            page, limit=1 if frames or page.configurations else MAX_FEEDS
        )
        found = found or await self._from_frames(page, frames or await self._oembed_frames(page))
        found = found or await self._from_configurations(page)
        return found or await self._from_videos(page)

    async def _landing_page(self) -> PageFacts | None:
        """Return the submitted page, or the one to which it redirects if it has neither audio nor feeds."""
        page = await self._attempt("resolving_page", self._search.page())
        for _ in range(MAX_REFRESHES):
            if page is None or not _is_redirect(page) or urls.is_audio_url(page.refresh or ""):
                break
            page = await self._attempt("resolving_page", self._search.page(page.refresh)) or page
        return page

    async def _from_refresh(self, page: PageFacts) -> FoundAudio | None:
        """Read the target of a page's redirect as a feed, or open it as media: it is no page."""
        if not page.refresh or not _is_redirect(page):
            return None
        if not urls.is_audio_url(page.refresh):
            feed = await self._attempt("resolving_feed", self._search.feed(page.refresh))
            if feed is not None:
                find = partial(episodes.choose_named, url=page.refresh)
                return await self._from_episode(feed, find, technique="page.refresh", page_url=page.final_url)
        title = EpisodeFacts(title=page.title)
        lead = MediaLead(page.refresh, "page.refresh", "the page redirects to it", episode=title)
        return await self._open([lead], page.final_url, found_at="resolving_page")

    async def _from_candidates(self, page: PageFacts) -> FoundAudio | None:
        search = self._search
        accepted = page.candidates[: page.accepted]
        search.rejected.extend(page.candidates[page.accepted :])
        if page.outcome == "ambiguous":
            message = f"{len(page.candidates)} audio files were found; several are equally likely."
        elif accepted:
            best = accepted[0]
            message = f"{best.technique} names the audio (score {best.score:g}; {THRESHOLD:g} is enough)."
        else:
            likely = "likely audio" if page.candidates else "audio"
            message = f"No {likely} on the page itself."
        outcome: Literal["found", "passed"] = "found" if accepted else "passed"
        await search.report("resolving_page", outcome, message, page.candidates[:20])
        return await self._open([_lead_of(page, one) for one in accepted[:3]], page.final_url)

    async def _from_videos(self, page: PageFacts) -> FoundAudio | None:
        for candidate in page.videos[:1]:
            found = await self._open([_lead_of(page, candidate)], page.final_url)
            if found is not None:
                message = "There is no audio file, but a video with sound."
                await self._search.report("resolving_page", "found", message, (candidate,))
                return found
        return None

    async def _from_feed_links(self, page: PageFacts, *, limit: int) -> FoundAudio | None:
        for url in page.feeds[:limit]:
            lead = FeedLead(url, "page.feed", self._search.wanted)
            if (found := await self._from_feed(lead, page.final_url, page)) is not None:
                return found
        return None

    async def _from_feed(
        self, lead: FeedLead, page_url: str | None, page: PageFacts | None = None
    ) -> FoundAudio | None:
        """Look the episode up in a feed. Only a show's own page may stand for its newest episode."""
        key = _feed_key(lead.url)
        if key in self._tried_feeds:
            return None
        self._tried_feeds.add(key)
        feed = await self._attempt("resolving_feed", self._search.feed(lead.url))
        if feed is None:
            return None
        find = partial(episodes.choose, lead=lead, page=page)
        return await self._from_episode(feed, find, technique=lead.technique, page_url=page_url)

    async def _from_episode(
        self,
        feed: FeedFacts,
        find: Callable[..., Match],
        *,
        technique: str | None = None,
        page_url: str | None = None,
    ) -> FoundAudio | None:
        """Open the episode that `find` chooses in the feed, in its older pages, or at its new address."""
        for _ in range(1 + MAX_MOVES):
            moved_to = feed.moved_to if _feed_key(feed.moved_to or "") not in self._tried_feeds else None
            if feed.episodes or not moved_to:
                page, match = await self._match(feed, find)
                found = await episodes.open_episode(self._search, page, match, technique, page_url)
                if found is not None:
                    return found
            if not moved_to:
                return None
            self._tried_feeds.add(_feed_key(moved_to))
            moved = await self._attempt("resolving_feed", self._search.feed(moved_to))
            if moved is None:
                return None
            feed = moved
        return None

    async def _match(self, feed: FeedFacts, find: Callable[..., Match]) -> tuple[FeedFacts, Match]:
        """Return the chosen episode and the page of the feed that has it, else the first page."""
        # Matching takes 0.1 to 1 s for a feed of 5,000 items: too long for the event loop.
        first = await asyncio.to_thread(find, feed, now=self._now)
        page, (episode, how) = feed, first
        for _ in range(MAX_FEED_PAGES):
            # A page without audio is a blog's, and several episodes that fit are ambiguous on every page.
            playable = any(episode.enclosures for episode in page.episodes)
            ambiguous = how.startswith("ambiguous")
            if episode is not None or ambiguous or not playable or page.next_page is None:
                break
            older = await self._attempt("resolving_feed", self._search.feed(page.next_page))
            if older is None:
                break
            page, (episode, how) = older, await asyncio.to_thread(find, older, now=self._now)
        return (page, (episode, how)) if episode is not None else (feed, first)

    # --- players --------------------------------------------------------------------------------------------

    async def _oembed_frames(self, page: PageFacts) -> tuple[str, ...]:
        """Return the players that the page's oEmbed endpoint offers; WordPress offers only the page."""
        if not page.oembed or "/wp-json/" in page.oembed[0]:
            return ()
        endpoint = page.oembed[0]
        fetching = self._search.fetch(endpoint, headers={"accept": "application/json"})
        document = await self._attempt("resolving_page", fetching)
        data = strict_json(document.body) if document is not None and document.status == 200 else None
        markup = data.get("html") if isinstance(data, dict) else None
        sources = _FRAME_SOURCE.findall(unescape_attribute(markup)) if isinstance(markup, str) else []
        players = [url for source in sources[:5] if (url := absolute(endpoint, source))]
        return player_frames(players, page.final_url, self._is_known)

    async def _from_frames(self, page: PageFacts, frames: Sequence[str]) -> FoundAudio | None:
        if not frames:
            return None
        chosen = one_each(frames)
        if chosen is None:
            message = f"{len(frames)} players are embedded, and nothing says which one is the page's."
            await self._search.report("resolving_page", "passed", message)
            return None
        for url in chosen[:MAX_FRAMES]:
            if (found := await self._from_frame(page, url)) is not None:
                return found
        return None

    async def _from_frame(self, page: PageFacts, url: str) -> FoundAudio | None:
        """Look into a player on the page: its platform's rule, else the player's own page. Depth 1 only."""
        search = self._search
        if (rule := self._rule_for(url)) is not None:
            answer = await self._try_rung(rule, url, keep_errors=False)
            found = await self._follow(answer, rule.stage, page_url=page.final_url, episode=page.episode)
            if found is None and not answer.media and not answer.feeds:
                search.wanted = answer.wanted.merged(search.wanted)
            # If a platform refuses for good (music, encrypted), its player's page is no use either.
            if found is not None or answer.final or isinstance(answer.failure, JobError):
                return found
        player = await self._attempt("resolving_page", search.player_configuration(url, page.title))
        found = await self._from_player(page, url, player)
        if found is None and player is not None and not player.accepted:
            found = await self._from_configurations(player)
        return found

    async def _from_configurations(self, page: PageFacts) -> FoundAudio | None:
        """Open the audio of the page's player, if only one of the configurations on the page names audio."""
        playing = []
        for url in page.configurations:
            reading = self._search.player_configuration(url, page.title)
            player = await self._attempt("resolving_page", reading)
            if player is not None and player.accepted:
                playing.append((url, player))
        if len({player.candidates[0].url for _, player in playing}) > 1:
            message = f"{len(playing)} players are configured, and nothing says which one is the page's."
            await self._search.report("resolving_page", "passed", message)
            return None
        return await self._from_player(page, *playing[0]) if playing else None

    async def _from_player(self, page: PageFacts, url: str, player: PageFacts | None) -> FoundAudio | None:
        if player is None:
            return None
        leads = [
            MediaLead(
                candidate.url,
                f"player.{candidate.technique.rpartition('.')[2]}",
                f"the player of {urls.host_of(url)} on the page plays it",
                score=candidate.score,
                episode=replace(player.episode, title=player.title or page.title),
            )
            for candidate in player.candidates[: player.accepted][:2]
        ]
        return await self._open(leads, page.final_url, found_at="resolving_page")

    # --- beyond the page ------------------------------------------------------------------------------------

    async def _from_elsewhere(self) -> FoundAudio | None:
        """Try the directory, then the extractor, for pages and for sites that refuse this client."""
        if not self._may_be_elsewhere:
            return None
        search = self._search
        for rung in self._beyond:
            # A directory that is down says nothing about a page that may not be listed there anyway.
            keep = rung.stage != "resolving_directory" or self._known_platform
            answer = await self._try_rung(rung, search.url, keep_errors=keep)
            page_url = self._page.final_url if self._page else None
            if (found := await self._follow(answer, rung.stage, page_url=page_url)) is not None:
                return found
            if answer.failure is None:
                await search.report(rung.stage, "passed", _NOTHING.get(rung.stage, "Nothing was found."))
        return None


def _feed_key(url: str) -> str:
    return urls.for_request(urls.normalised(url))


def _is_redirect(page: PageFacts) -> bool:
    return bool(page.refresh) and not page.candidates and not page.feeds


def _lead_of(page: PageFacts, candidate: Candidate) -> MediaLead:
    score = f" with a score of {candidate.score:g}" if candidate.score is not None else ""
    return MediaLead(
        candidate.url,
        candidate.technique,
        f"the page names it as its audio{score}",
        score=candidate.score,
        episode=page.episode.merged(EpisodeFacts(title=candidate.title)),
    )
