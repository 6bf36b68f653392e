"""Judges the elements around an element of a page, and the text next to it. Runs in the parsing child."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Final, Literal

MAX_ANCESTORS: Final = 40
MAX_NODES: Final = 150
"""How many nodes below an element are read."""

_ASIDE = re.compile(
    r"(?:^|[\s_-])(?:sidebar|side-bar|related|promo|promos|promotion|teaser|teasers"
    r"|radio-program|latest-podcasts?|latest-episodes?|recent-episodes?|more-episodes|other-episodes|recommended"
    r"|recommendations?|read-?more|most-?read|trending|popular|onward|suggested|footer|breadcrumbs?|menu"
    r"|next-episode|prev(?:ious)?-episode|also-like|similar)(?:$|[\s_-])|(?:^|\s)widget(?:$|\s)",
    re.IGNORECASE,
)
_TEASER = re.compile(r"(?:^|[\s_-])(?:teaser|promo|related)(?:$|[\s_-])", re.IGNORECASE)
_COMMENTS = re.compile(
    r"(?:^|[\s_-])(?:comments?|commentlist|comment-(?:body|content|text)|kommentare?|commentaires?|disqus|replies)"
    r"(?:$|[\s_-])",
    re.IGNORECASE,
)
_NOT_ASIDE = re.compile(
    r"(?:^|\s)(?:no|has|with|without|open|is)-?(?:sidebar|comments?|related|menu|footer)\S*"
)
_NARRATION_CLASS = re.compile(
    r"(?:^|[\s_-])(?:polly|tts|audionote|audio-note|speechkit|beyondwords|trinity-?(?:audio|player)|readspeaker"
    r"|read-?aloud"
    r"|text-?to-?speech|narration|narrated|listen-to-(?:this-)?article|article-narration"
    r"|speech-?(?:player|article)|listen-article|article-listen|voiced-article|audio-version|webreader|narrator"
    r"|ad-auris|everlit|vorlesen)(?:$|[\s_-])",
    re.IGNORECASE,
)
_NARRATION_TEXT = re.compile(
    r"listen to (?:this|the) article|(?:this|the) article (?:was |is )?read"
    r"|audio version of (?:this|the) article"
    r"|(?:ai|computer)[- ]generated (?:voice|audio)|automated voice|artikel (?:an)?hören"
    r"|diesen artikel|artikel vorlesen"
    r"|voiced by|powered by (?:trinity|beyondwords|speechify|elevenlabs|ad auris)|text[- ]to[- ]speech"
    r"|audio is (?:auto(?:matically)?|ai|machine)[- ]generated|automatically generated audio|ki[- ]generiert"
    r"|ki-stimme|maschinell vorgelesen|voix de synthèse|voz sintética"
    r"|generado (?:por|con) (?:ia|inteligencia)"
    r"|vorlesefunktion|écouter (?:l.article|cet article)|(?:escuchar|escucha) (?:este|el) artículo"
    r"|ascolta l.articolo|ascolta (?:questo )?articolo|ouvir (?:este|o) artigo"
    r"|(?:beluister|luister naar) dit artikel"
    r"|lyssna på artikeln"
    r"|lyt til artikl|この記事を(?:聴|聞)|記事を読み上げ|прослушать статью|dengarkan artikel",
    re.IGNORECASE,
)
_EVIDENCE = re.compile(
    r"download|herunterladen|télécharger|telecharger|descargar|scarica|baixar|downloaden|ladda ner|last ned"
    r"|\bhent\b"
    r"|pobierz|скачать|ダウンロード|下载|下載|다운로드|listen|anhören|nachhören|hören|écouter|ecouter|réécouter|escuchar|escucha"
    r"|ascolta|ouvir|luister|lyssna|lytt|kuuntele|posłuchaj|слушать|聴く|再生|播放|收听|收聽|聆听|聆聽|音频|音頻|音檔"
    r"|듣기|오디오|استمع|تحميل|להאזנה|האזינו|הורדה|सुनें|डाउनलोड|ฟัง|ดาวน์โหลด|dinle|\bindir\b|dengar|unduh|nghe\b"
    r"|tải về|poslech|stáhn|hallgat|letölt|ascult|descarc|слухати|завантаж|скачай|ακούστε|κατεβάστε"
    r"|lyt\b|lataa|slušaj|preuzmi|escolta|baixa|ouça|descarregar|podcast"
    r"|\b(?:mp3|m4a|aac|ogg|wav|flac|opus)\b|audio|play\b|episode|folge\b|radio",
    re.IGNORECASE,
)
_HEADINGS: Final = ("h2", "h3", "h4", "h5")
# Without h1: everything on the page is below it, so it distinguishes nothing.
_LABELS: Final = (
    "title", "aria-label", "data-title", "data-name", "data-episode-title", "data-track-title", "alt",
    "name",
)  # fmt: skip


Place = Literal["aside", "narration", "comments", "main"]


def places_of(element: Any) -> set[Place]:
    """Return where an element is, judged by its ancestors up to the body."""
    aside = narration = comments = main = False
    node, steps = element, 0
    while node is not None and steps < MAX_ANCESTORS:
        tag = node.tag.lower() if isinstance(node.tag, str) else ""
        if tag in {"body", "html"}:
            break
        names = f"{node.get('class') or ''} {node.get('id') or ''}"
        main = main or tag in {"main", "article"}
        if tag in {"aside", "footer", "nav"}:
            aside = True
        elif tag == "article":
            aside = aside or bool(_TEASER.search(names))
        elif tag != "main" and names.strip():
            names = _NOT_ASIDE.sub(" ", names)
            aside = aside or bool(_ASIDE.search(names))
            comments = comments or bool(_COMMENTS.search(names))
        narration = narration or bool(_NARRATION_CLASS.search(names))
        if steps < 3 and not narration:
            nearby = text_of(node, limit=300) if steps else labels(node)
            narration = len(nearby) < 250 and bool(_NARRATION_TEXT.search(nearby))
        node, steps = node.getparent(), steps + 1
    found: dict[Place, bool] = {"aside": aside, "narration": narration, "comments": comments, "main": main}
    return {place for place, is_there in found.items() if is_there}


def heading_near(element: Any) -> str:
    """Return the nearest heading before the element, among its siblings and those of its ancestors."""
    node = element
    for _ in range(5):
        if node is None or node.tag in {"body", "html"}:
            break
        sibling, steps = node.getprevious(), 0
        while sibling is not None and steps < 6:
            if isinstance(sibling.tag, str):
                heading = sibling if sibling.tag in _HEADINGS else next(sibling.iter(*_HEADINGS), None)
                if heading is not None:
                    return text_of(heading, limit=300)
            sibling, steps = sibling.getprevious(), steps + 1
        node = node.getparent()
    return ""


def labels(element: Any) -> str:
    """Return an element's labels: its title, aria-label, data-title and the like."""
    return " ".join(value for name in _LABELS if (value := element.get(name)))[:500]


def text_of(element: Any, limit: int = 400) -> str:
    """Return the first `limit` characters of an element's text, of its first `MAX_NODES` nodes at most.

    Nodes are bounded as well, because a hostile page may nest a million of them without any text.
    """
    parts: list[str] = []
    length = 0
    for node in islice(element.iter(), MAX_NODES):
        for part in (
            node.text if isinstance(node.tag, str) else None,
            node.tail if node is not element else None,
        ):
            if part:
                parts.append(part)
                length += len(part)
        if length > limit * 2:
            break
    return " ".join(" ".join(parts).split())[:limit]


def says_audio(near: str) -> bool:
    """Return whether a link's text and class say, in one of many languages, that it is audio."""
    return bool(_EVIDENCE.search(near[:400]))
