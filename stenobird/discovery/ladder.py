"""The ladder: from a URL to the one audio behind it, rung by rung, each with its verdict.

    normalise ─► platform rule (by host) ─► fetch + sniff ─► media: done
                                                          ├► feed: newest, or the episode named
                                                          └► page ─► candidates, scored
                                                                  ├► feed links + episode match
                                                                  ├► player iframes, depth 1
                                                                  ├► directory
                                                                  ├► extractor
                                                                  └► audio_source_not_found, with reasons

A wrong file is worse than none: whatever is ambiguous is refused, and an episode's URL is never answered with
another episode.
"""

from __future__ import annotations

import asyncio
import html
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from stenobird.discovery import urls
from stenobird.discovery.feeds import choice as feeds
from stenobird.discovery.outcome import failure, gone, refusal
from stenobird.discovery.page.candidates import THRESHOLD
from stenobird.discovery.page.players import one_each, player_frames
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedLead, FoundSource, MediaLead
from stenobird.discovery.search import FEED_BYTES, Clip, Search
from stenobird.errors import AudioSourceUnreachable, EgressError, JobError
from stenobird.sources import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stenobird.discovery.parsing.facts import FeedFacts, PageFacts, PlatformRule, Rung
    from stenobird.discovery.parsing.parser import DocumentParser
    from stenobird.discovery.search import Opened, WebClient
    from stenobird.ports import FoundAudio, VerdictSink
    from stenobird.sources import Stage

MAX_FEEDS: Final = 2
MAX_FRAMES: Final = 2
MAX_REFRESHES: Final = 2
SEARCH_SECONDS: Final = 180.0
_NOTHING: Final[dict[Stage, str]] = {
    "resolving_directory": "The podcast directory gives nothing that fits.",
    "resolving_extractor": "No extractor finds audio at this URL.",
}


@dataclass(frozen=True, slots=True)
class Rungs:
    """The rungs that other modules provide; each may be missing."""

    platforms: Sequence[PlatformRule] = ()
    directory: Rung | None = None
    extractor: Rung | None = None


class DiscoveryLadder:
    """Implements `ports.AudioFinder`. Safe to share between tasks: a search keeps its state to itself.

    A search ends within `SEARCH_SECONDS`; past that it fails with `AudioSourceUnreachable`.
    """

    def __init__(
        self,
        client: WebClient,
        parser: DocumentParser,
        rungs: Rungs | None = None,
        *,
        now: Callable[[], datetime] | None = None,
        search_seconds: float = SEARCH_SECONDS,
    ) -> None:
        self._client = client
        self._parser = parser
        self._rungs = rungs or Rungs()
        self._now = now or (lambda: datetime.now(UTC))
        self._search_seconds = search_seconds

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Return the one right audio. Raises a `JobError` that says what was tried."""
        search = Search(self._client, self._parser, url, preview=preview, sink=report)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(search.aclose)
            if not urls.is_audio_url(search.url):
                await self._parser.prepare()
            try:
                async with asyncio.timeout(self._search_seconds):
                    found = await _Climb(search, self._rungs, self._now()).run()
            except TimeoutError as exc:
                raise AudioSourceUnreachable(
                    f"Looking for the audio took longer than {self._search_seconds:g} s. Try again, or send"
                    " the direct audio URL."
                ) from exc
            # Not before the last report has been taken: until then, the search closes what it opened.
            search.hand_over(found)
            return found


class _Climb:
    """One search's way up the ladder."""

    def __init__(self, search: Search, rungs: Rungs, now: datetime) -> None:
        self._search = search
        self._rungs = rungs
        self._now = now
        self._clip: Clip | None = None
        self._held: list[JobError] = []
        self._page: PageFacts | None = None
        self._tried_feeds: set[str] = set()
        self._elsewhere = False
        self._known_platform = False
        self._stood_in_the_way = False

    async def run(self) -> FoundAudio:
        """Climb until a rung has the audio; else raise what says best why there is none."""
        search = self._search
        rule = next((rule for rule in self._rungs.platforms if rule.matches(search.url)), None)
        answer: FoundSource | None = None
        if rule is not None:
            search.with_state = self._known_platform = True
            answer = await self._ask(rule, search.url)
            if answer is not None:
                found = await self._take(answer, rule.stage)
                if found is not None:
                    return found
            if not self._stood_in_the_way:
                await search.report(rule.stage, "passed", f"{rule.name} gave no audio that could be opened.")
        found = await self._fetch_and_read(generic=answer is None or not answer.final)
        found = found or await self._look_elsewhere()
        if found is not None:
            return found
        if self._clip is not None and not self._clip.is_sample:
            return self._clip.found
        raise failure(search, self._held, self._page, self._clip)

    # --- asking rungs ---------------------------------------------------------------------------------------

    async def _ask(self, rung: Rung, url: str, *, keep_errors: bool = True) -> FoundSource | None:
        """Ask a rung; what stands in its way is reported, kept for the end, and never ends the search."""
        try:
            answer = await rung.try_(self._search, url)
        except (JobError, EgressError) as exc:
            answer = FoundSource(failure=exc)
        failure = answer.failure if answer is not None else None
        self._stood_in_the_way = failure is not None
        if failure is not None:
            await self._search.report(rung.stage, "failed", failure.message)
        if keep_errors and isinstance(failure, JobError):
            self._held.append(failure)
        return answer

    async def _take(
        self,
        answer: FoundSource,
        stage: Stage,
        *,
        page_url: str | None = None,
        view: EpisodeFacts | None = None,
    ) -> FoundAudio | None:
        """Follow a rung's leads. For a player on a page, `view` is the page's episode: no show is meant."""
        search = self._search
        if answer.wanted is not None and view is None:
            search.wanted = answer.wanted.merged(search.wanted)
        for lead in answer.media:
            found = await self._try(lead, page_url)
            if found is not None:
                await search.report(stage, "found", f"{lead.technique}: {lead.reason}.")
                return found
        for feed_lead in answer.feeds[:MAX_FEEDS]:
            meant = feed_lead
            if view is not None:
                wanted = feed_lead.wanted.merged(answer.wanted or EpisodeFacts()).merged(view)
                meant = replace(feed_lead, newest=False, wanted=wanted)
            found = await self._from_feed(meant, page_url)
            if found is not None:
                return found
        return None

    async def _try(self, lead: MediaLead, page_url: str | None) -> FoundAudio | None:
        result = await self._search.try_media(lead, page_url=page_url)
        return await self._unless_clip(result, lead)

    async def _unless_clip(
        self, result: FoundAudio | Clip | None, lead: MediaLead | None
    ) -> FoundAudio | None:
        if not isinstance(result, Clip):
            return result
        source = result.found.source
        reason = f"a clip of {result.seconds:.0f} s, while the episode has {result.expected_seconds:.0f} s"
        self._search.rejected.append(
            Candidate(source.media_url, source.technique, lead.score if lead else None, rejected=reason)
        )
        self._clip = self._clip or result
        return None

    # --- the submitted URL ----------------------------------------------------------------------------------

    async def _fetch_and_read(self, *, generic: bool) -> FoundAudio | None:
        search = self._search
        try:
            first = await search.open_first()
        except EgressError as exc:
            self._held.append(refusal(search.url, exc))
            await search.report("resolving_direct", "failed", exc.message)
            return None
        status, kind = first.response.status, first.sniffed.kind
        if status >= 400 and not (status == 416 and kind == "empty"):
            # A site that turns us away may still be known to the directory, or let its own extractor in.
            self._elsewhere = status in {401, 403, 429, 503}
            error = refusal(search.url, status)
            self._held.append(error)
            await search.report("resolving_direct", "failed", error.message)
            return None
        if kind in {"media", "playlist", "empty"}:
            return await self._from_direct(first)
        if kind == "feed" or (kind in {"json", "other"} and not first.sniffed.container.startswith("status")):
            found = await self._from_submitted_feed(kind)
            if found is not None or kind == "feed":
                return found
        if kind == "html":
            self._elsewhere = True
            await search.report("resolving_direct", "passed", "The URL is a page, not media.")
            return await self._from_page(generic=generic)
        return None

    async def _from_direct(self, first: Opened) -> FoundAudio | None:
        container = first.sniffed.container
        lead = MediaLead(self._search.url, "direct", f"the URL itself is audio ({container})")
        found = await self._try(lead, None)
        if found is not None:
            await self._search.report("resolving_direct", "found", f"The URL itself is audio ({container}).")
        return found

    async def _from_submitted_feed(self, kind: str) -> FoundAudio | None:
        search = self._search
        feed = await self._read_feed(search.url)
        if feed is None:
            if kind != "feed":
                document = await search.submitted_document(FEED_BYTES)
                what = "data (JSON)" if kind == "json" else "no audio, page or feed"
                search.not_media.append((document.final_url, f"it is {what}"))
            return None
        if not feed.episodes and feed.moved_to and feed.moved_to != search.url:
            feed = await self._read_feed(feed.moved_to) or feed
        self._tried_feeds.add(urls.for_request(search.url))
        pick = await asyncio.to_thread(feeds.pick_named, feed, search.url, now=self._now)
        result = await feeds.open_episode(search, feed, pick, None, None)
        return await self._unless_clip(result, None)

    async def _read_feed(self, url: str) -> FeedFacts | None:
        try:
            return await self._search.feed(url)
        except EgressError as exc:
            await self._search.report("resolving_feed", "failed", f"{urls.host_of(url)}: {exc.message}")
            return None

    # --- the page -------------------------------------------------------------------------------------------

    async def _from_page(self, *, generic: bool) -> FoundAudio | None:
        search = self._search
        page = await self._landing_page()
        if page is None:
            return None
        if urls.is_gone_home(search.url, page.final_url):
            self._elsewhere = False
            self._held.append(gone(search.url))
            await search.report("resolving_page", "failed", self._held[-1].message)
            return None
        self._page = page
        search.wanted = search.wanted.merged(page.episode)
        if generic:
            found = await self._from_candidates(page)
            if found is not None:
                return found
        frames = player_frames(page.iframes, page.final_url, self._is_known)
        known = tuple(frame for frame in frames if self._is_known(frame))
        # The player of a known platform is surer than a feed link, which may well be the blog's.
        if generic and len(known) == 1:
            found = await self._from_frames(page, known)
            frames = tuple(frame for frame in frames if frame not in known)
            if found is not None:
                return found
        # With a player still to look into, one feed is what two round trips allow.
        found = await self._from_feed_links(page, limit=1 if frames and generic else MAX_FEEDS)
        if found is None and generic:
            found = await self._from_frames(page, frames)
        if found is None and generic and not frames:
            found = await self._from_frames(page, await self._oembed_frames(page))
        if found is None and generic:
            found = await self._from_videos(page)
        return found

    async def _landing_page(self) -> PageFacts | None:
        """Return the submitted page, or where one that has nothing to say sends its reader."""
        page = await self._read_page(None)
        for _ in range(MAX_REFRESHES):
            if page is not None and page.refresh and not page.candidates and not page.feeds:
                page = await self._read_page(page.refresh) or page
        return page

    async def _oembed_frames(self, page: PageFacts) -> tuple[str, ...]:
        """Return the players that the page's oEmbed endpoint offers; WordPress offers the page itself."""
        for endpoint in page.oembed[:1]:
            if "/wp-json/" in endpoint:
                continue
            try:
                data = await self._search.fetch_json(endpoint)
            except EgressError as exc:
                await self._search.report("resolving_page", "failed", exc.message)
                continue
            markup = data.get("html") if isinstance(data, dict) else None
            if isinstance(markup, str):
                sources = re.findall(
                    r"<iframe[^>]{0,2000}?\ssrc\s*=\s*[\"']([^\"']{1,4096})", html.unescape(markup)
                )
                players = [url for source in sources[:5] if (url := urls.absolute(endpoint, source))]
                return player_frames(players, page.final_url, self._is_known)
        return ()

    async def _read_page(self, url: str | None) -> PageFacts | None:
        try:
            return await self._search.page(url)
        except EgressError as exc:
            await self._search.report("resolving_page", "failed", exc.message)
            return None

    def _is_known(self, url: str) -> bool:
        return any(rule.matches(url) for rule in self._rungs.platforms)

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
            message = (
                "No audio on the page itself."
                if not page.candidates
                else "No likely audio on the page itself."
            )
        await search.report(
            "resolving_page", "found" if accepted else "passed", message, page.candidates[:20]
        )
        for candidate in accepted[:3]:
            found = await self._try(_lead_of(page, candidate), page.final_url)
            if found is not None:
                return found
        return None

    async def _from_videos(self, page: PageFacts) -> FoundAudio | None:
        for candidate in page.videos[:1]:
            found = await self._try(_lead_of(page, candidate), page.final_url)
            if found is not None:
                message = "There is no audio, but a video whose sound can be heard."
                await self._search.report("resolving_page", "found", message, (candidate,))
                return found
        return None

    async def _from_feed_links(self, page: PageFacts, *, limit: int) -> FoundAudio | None:
        for url in page.feeds[:limit]:
            found = await self._from_feed(
                FeedLead(url, "page.feed", self._search.wanted), page.final_url, page
            )
            if found is not None:
                return found
        return None

    async def _from_feed(
        self, lead: FeedLead, page_url: str | None, page: PageFacts | None = None
    ) -> FoundAudio | None:
        """Look the episode up in a feed. Only a show's own page may stand for its newest episode."""
        key = urls.for_request(urls.normalised(lead.url))
        if key in self._tried_feeds:
            return None
        self._tried_feeds.add(key)
        feed = await self._read_feed(lead.url)
        if feed is None:
            return None
        # A feed of 5,000 items takes 0.1 to 1 s to look through: not in the event loop's thread.
        pick = await asyncio.to_thread(feeds.pick, feed, lead, now=self._now)
        unmatched = pick.episode is None and not lead.newest
        if unmatched and page is not None and feeds.is_show_page(page, feed, self._search.url):
            pick = feeds.pick(feed, replace(lead, newest=True), now=self._now)
        result = await feeds.open_episode(self._search, feed, pick, lead.technique, page_url)
        return await self._unless_clip(result, None)

    # --- players --------------------------------------------------------------------------------------------

    async def _from_frames(self, page: PageFacts, frames: Sequence[str]) -> FoundAudio | None:
        if not frames:
            return None
        chosen = one_each(frames)
        if chosen is None:
            message = f"{len(frames)} players are embedded; which one is the page's can't be told."
            await self._search.report("resolving_page", "passed", message)
            return None
        for url in chosen[:MAX_FRAMES]:
            found = await self._from_frame(page, url)
            if found is not None:
                return found
        return None

    async def _from_frame(self, page: PageFacts, url: str) -> FoundAudio | None:
        """Look into a player on the page: its platform's rule, else the player's own page. Depth 1 only."""
        search = self._search
        rule = next((rule for rule in self._rungs.platforms if rule.matches(url)), None)
        if rule is not None:
            found, is_final = await self._from_platform_player(rule, page, url)
            if found is not None or is_final:
                return found
        player = await self._read_page(url)
        if player is None or not player.accepted:
            return None
        for candidate in player.candidates[: player.accepted][:2]:
            lead = replace(
                _lead_of(player, candidate),
                technique=f"player.{candidate.technique.rpartition('.')[2]}",
                reason=f"the player of {urls.host_of(url)} on the page plays it",
                title=player.title or page.title,
            )
            found = await self._try(lead, page.final_url)
            if found is not None:
                await search.report("resolving_page", "found", f"{lead.technique}: {lead.reason}.")
                return found
        return None

    async def _from_platform_player(
        self, rule: PlatformRule, page: PageFacts, url: str
    ) -> tuple[FoundAudio | None, bool]:
        """Return what a platform knows of its player, and whether the player's own page is worth nothing."""
        search = self._search
        answer = await self._ask(rule, url, keep_errors=False)
        if answer is None:
            return None, False
        found = await self._take(answer, rule.stage, page_url=page.final_url, view=page.episode)
        if found is None and answer.wanted is not None and not answer.media and not answer.feeds:
            search.wanted = answer.wanted.merged(search.wanted)
        # A platform that refuses for good (music, encrypted) has nothing better on the player's page.
        return found, answer.final or isinstance(answer.failure, JobError)

    # --- beyond the page ------------------------------------------------------------------------------------

    async def _look_elsewhere(self) -> FoundAudio | None:
        """Ask the directory, then the extractor, for pages and for what only they may open."""
        if not self._elsewhere:
            return None
        for rung in (self._rungs.directory, self._rungs.extractor):
            if rung is None:
                continue
            # A directory that is down says nothing about a page that only might be listed there.
            keep = rung is not self._rungs.directory or self._known_platform
            answer = await self._ask(rung, self._search.url, keep_errors=keep)
            if answer is not None:
                found = await self._take(
                    answer, rung.stage, page_url=self._page.final_url if self._page else None
                )
                if found is not None:
                    return found
            if not self._stood_in_the_way:
                await self._search.report(
                    rung.stage, "passed", _NOTHING.get(rung.stage, "Nothing was found.")
                )
        return None


def _lead_of(page: PageFacts, candidate: Candidate) -> MediaLead:
    episode = page.episode
    score = f" with a score of {candidate.score:g}" if candidate.score is not None else ""
    return MediaLead(
        candidate.url,
        candidate.technique,
        f"the page names it as its audio{score}",
        score=candidate.score,
        title=episode.title or candidate.title,
        podcast=episode.show,
        published=episode.published,
        duration_seconds=episode.duration_seconds,
    )
