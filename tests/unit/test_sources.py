from __future__ import annotations

from stenobird.sources import AudioSource, Candidate, Verdict


def test_titles_of_pages_can_be_stored_and_sent_whatever_their_json_escapes() -> None:
    url = "https://example.com/e.mp3"
    candidate = Candidate("https://example.com/\ud800", "page.link", title="a\x00b")
    verdict = Verdict("resolving_page", "passed", "no \udfff here", (candidate,))
    source = AudioSource(
        url, url, url, "page.json_ld", "named", title="Ep \ud83d 😀", candidates=(candidate,)
    )

    assert source.public()["title"] == "Ep \ufffd 😀"
    assert (candidate.url, candidate.title) == ("https://example.com/\ufffd", "a\ufffdb")
    assert verdict.message == "no \ufffd here"
    assert source.candidates == verdict.candidates == (candidate,)
