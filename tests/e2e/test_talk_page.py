"""The talk page in a real browser, on the gateway's real HTTP and WebRTC with a scripted face behind them."""

import asyncio
import json
import subprocess
import sys
import urllib.request
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.fakes.browser import (
    DESKTOP,
    PHONE,
    Look,
    Microphone,
    browser,
    loudness,
    needs_chromium,
    opened,
    page_of,
    playing,
)

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "What is the tallest mountain on Earth?"
FIRST_WORDS = "The tallest mountain above sea level"
ENOUGH = "What is the tall"
"""So much of the question is more than a cough: whoever lets go of the button here is answered."""

pytestmark = needs_chromium


@dataclass
class Site:
    """The page's server: a process of its own, which can be killed and come back at the same port."""

    port: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.talk_page", "--port", str(self.port), *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    async def busy(self, times: int, retry_after_s: float) -> None:
        await self._open(f"test/busy?times={times}&retry_after_s={retry_after_s}", "POST")

    async def seen(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(await self._open("test/seen"))
        return found

    async def _open(self, path: str, method: str = "GET") -> bytes:
        def fetch() -> bytes:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, method=method), timeout=10) as response:
                return bytes(response.read())

        return await asyncio.to_thread(fetch)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    made.start()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A question, and a long silence behind it: the browser plays it over and over."""
    with wave.open(str(ROOT / "tests" / "data" / "question.wav")) as source:
        rate_hz, data = source.getframerate(), source.readframes(source.getnframes())
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate_hz)
        target.writeframes(bytes(rate_hz) + data + bytes(2 * rate_hz * 15))
    return path


async def phase(page: Page, name: str) -> None:
    await expect(page.locator("html")).to_have_attribute("data-phase", name)


async def problem(page: Page, code: str, title: str = "") -> None:
    """Check what is wrong as the user is told it."""
    await expect(page.locator("#problem")).to_be_visible()
    await expect(page.locator("#problem")).to_have_attribute("data-code", code)
    if title:
        await expect(page.locator("#problem-title")).to_have_text(title)


async def typed(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")


@asynccontextmanager
async def talking(
    site: Site, microphone: Microphone = "none", query: str = "", look: Look = DESKTOP
) -> AsyncIterator[Page]:
    """A page in a live conversation."""
    async with opened(site.url + query, microphone, look) as page:
        await phase(page, "idle")
        await page.click("#start" if isinstance(microphone, Path) else "#start-typing")
        await phase(page, "live")
        yield page


async def test_a_spoken_question_is_captioned_and_answered(site: Site, speech: Path) -> None:
    async with talking(site, speech) as page:
        await expect(page.locator("html")).to_have_attribute("data-moving", "true")
        await expect(page.locator(".user[data-state=interim]").first).to_contain_text("What")
        await expect(page.locator(".user[data-state=final]", has_text=QUESTION).first).to_be_visible()
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)
        assert await loudness(page) > 0.005
        await expect(page.locator(".reply .now")).to_have_count(1)
        await expect(page.locator("#announcer")).to_contain_text(FIRST_WORDS)
        await expect(page.locator("#latency-summary")).to_have_text("First sound 397 ms · picture 425 ms")
        await page.click("#latency summary")
        await expect(page.locator("#latency-stages")).to_contain_text("Recognising speech")
        before = await playing(page)
        await page.wait_for_timeout(1000)
        after = await playing(page)
        assert after["width"] == 512
        assert after["frames"] - before["frames"] >= 10
        assert [asked["mode"] for asked in await site.seen()] == ["auto"]


async def test_spoken_words_are_marked_in_their_order(site: Site) -> None:
    """Each word becomes "said" behind those before it, and at the end none is marked."""
    async with talking(site) as page:
        await page.evaluate(
            """() => {
                window.order = [];
                new MutationObserver(() => {
                    const now = document.querySelector(".reply .now")?.textContent;
                    if (now && order.at(-1) !== now) order.push(now);
                }).observe(document.querySelector("#turns"), { subtree: true, attributes: true, childList: true });
            }"""
        )
        await typed(page, "Which mountain?")
        await expect(page.locator("#latency")).to_be_visible()
        await expect(page.locator(".reply .now")).to_have_count(0)
        marked = await page.evaluate("window.order")
    spoken = [word for word in FIRST_WORDS.split() if word in marked]
    assert len(spoken) >= 4, marked
    places = [marked.index(word) for word in spoken]
    assert places == sorted(places)


async def test_without_a_microphone_one_types(site: Site) -> None:
    async with opened(site.url, "none") as page:
        await phase(page, "idle")
        await page.click("#start")
        await problem(page, "no_microphone", "No microphone found")
        await page.click("[data-action=type_instead]")
        await phase(page, "live")
        await typed(page, "Which mountain is the tallest?")
        await expect(page.locator(".user").first).to_have_text("Which mountain is the tallest?")
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)
        await expect(page.locator("#turns li")).to_have_count(1)
        offered = await page.locator("#talk-text").inner_text()
        assert offered in ("Interrupt", "Use the microphone")


async def test_a_denied_microphone_is_explained(site: Site) -> None:
    async with opened(site.url, "denied") as page:
        await phase(page, "idle")
        await page.click("#start")
        await problem(page, "microphone_denied", "The microphone is blocked")
        await page.click("[data-action=type_instead]")
        await phase(page, "live")


async def test_push_to_talk_by_space_bar(site: Site, speech: Path) -> None:
    async with talking(site, speech, "?mode=push") as page:
        await expect(page.locator("#talk-text")).to_have_text("Hold to talk")
        await page.wait_for_timeout(1500)
        assert await page.locator("#turns li").count() == 0, "heard without being pressed"
        await page.keyboard.down("Space")
        await expect(page.locator("#talk-text")).to_have_text("Release to send")
        await expect(page.locator(".user").first).to_contain_text(ENOUGH)
        await page.keyboard.up("Space")
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)
        assert [asked["mode"] for asked in await site.seen()] == ["push"]


async def test_push_to_talk_by_finger(site: Site, speech: Path) -> None:
    async with talking(site, speech, "?mode=push", PHONE) as page:
        await page.dispatch_event("#talk", "pointerdown", {"pointerId": 1, "isPrimary": True, "button": 0})
        # A made-up pointer cannot be captured; a real one is.
        await expect(page.locator("#talk")).to_have_attribute("aria-pressed", "true")
        await expect(page.locator(".user").first).to_contain_text(ENOUGH)
        await page.dispatch_event("#talk", "pointerup", {"pointerId": 1, "isPrimary": True, "button": 0})
        await expect(page.locator("#talk")).to_have_attribute("aria-pressed", "false")
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)


async def test_a_mode_switched_in_a_conversation_goes_on_with_it(site: Site, speech: Path) -> None:
    async with talking(site, speech) as page:
        await page.check("input[value=push]", force=True)
        await expect(page.locator("#talk-text")).to_have_text("Hold to talk")
        await phase(page, "live")
        await page.keyboard.down("Space")
        await expect(page.locator("#talk-text")).to_have_text("Release to send")
        await page.keyboard.up("Space")
        await expect(page.locator("#talk-text")).to_have_text("Hold to talk")
        first, second = await site.seen()
        assert (first["mode"], second["mode"]) == ("auto", "push")
        assert first["session"] == ""
        assert second["session"]


async def test_space_in_the_text_box_is_a_space(site: Site, speech: Path) -> None:
    async with talking(site, speech, "?mode=push") as page:
        await page.click("#text")
        await page.keyboard.type("one two")
        assert await page.input_value("#text") == "one two"
        await expect(page.locator("#talk-text")).to_have_text("Hold to talk")


async def test_a_muted_microphone_is_not_heard(site: Site, speech: Path) -> None:
    async with talking(site, speech) as page:
        await expect(page.locator("#level")).not_to_have_attribute("aria-valuenow", "0")
        await page.click("#mute")
        await expect(page.locator("#talk-text")).to_have_text("Microphone off")
        await expect(page.locator("#level")).to_have_attribute("aria-valuenow", "0")
        assert not await page.evaluate("document.querySelector('#mute').getAttribute('aria-pressed') === 'false'")


@pytest.mark.parametrize("how", ["button", "key"])
async def test_a_reply_is_interrupted(site: Site, how: str) -> None:
    async with talking(site) as page:
        await typed(page, "Which mountain?")
        await expect(page.locator("html")).to_have_attribute("data-floor", "speaking")
        await expect(page.locator(".reply").first).to_contain_text("The tallest")
        if how == "button":
            await page.click("#talk")
        else:
            await page.keyboard.press("Escape")
        await expect(page.locator("li[data-outcome=interrupted] .note")).to_have_text("interrupted")
        await expect(page.locator("html")).to_have_attribute("data-floor", "listening")
        assert "Mauna Kea" not in await page.locator(".reply").inner_text()


async def test_another_face_in_a_conversation(site: Site) -> None:
    async with talking(site) as page:
        await page.click("#settings")
        await page.check("input[value=leo]", force=True)
        await page.select_option("#voice", "joe")
        await page.click("#apply")
        await expect(page.locator("#still")).to_have_attribute("src", "/static/portraits/leo.jpg")
        await phase(page, "live")
        await expect(page.locator("html")).to_have_attribute("data-moving", "true")
        last = (await site.seen())[-1]
        assert (last["portrait"], last["voice"]) == ("leo", "joe")
        assert last["session"]


async def test_when_the_server_goes_the_conversation_is_taken_up_again(site: Site) -> None:
    async with talking(site) as page:
        await typed(page, "Which mountain?")
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)
        site.kill()
        await phase(page, "reconnecting")
        await expect(page.locator("#connection-text")).to_have_text("Reconnecting")
        site.start("--adopt")
        await phase(page, "live")
        assert [bool(asked["session"]) for asked in await site.seen()] == [True]
        await expect(page.locator(".reply").first).to_contain_text(FIRST_WORDS)
        await typed(page, "And the second?")
        await expect(page.locator(".reply").nth(1)).to_contain_text(FIRST_WORDS)


async def test_a_conversation_that_is_forgotten_has_ended(site: Site) -> None:
    async with talking(site) as page:
        site.kill()
        await phase(page, "reconnecting")
        site.start()
        await problem(page, "gone", "The conversation has ended")
        await phase(page, "ended")
        await page.click("[data-action=start_again]")
        await phase(page, "live")


async def test_a_server_that_is_not_there_is_waited_for(site: Site) -> None:
    async with opened(site.url) as page:
        await phase(page, "idle")
        site.kill()
        await page.click("#start-typing")
        await problem(page, "unreachable", "The server does not answer")
        await phase(page, "waiting")
        await expect(page.locator("#problem-countdown")).to_contain_text("Trying again in")
        site.start()
        await phase(page, "live")
        await expect(page.locator("#problem")).to_be_hidden()


async def test_a_full_server_is_asked_again_when_it_says(site: Site) -> None:
    async with opened(site.url) as page:
        await phase(page, "idle")
        await site.busy(times=2, retry_after_s=4)
        await page.click("#start-typing")
        await problem(page, "busy", "All places are taken")
        await expect(page.locator("#problem-countdown")).to_have_text("Trying again in 3 s")
        await page.click("[data-action=retry_now]")
        await problem(page, "busy")
        await phase(page, "live")
        assert len(await site.seen()) == 3


async def test_without_its_key_the_page_asks_for_the_whole_link(site: Site) -> None:
    async def only_with_key(route: Route) -> None:
        has_key = route.request.headers.get("authorization") == "Bearer let-me-in"
        await (route.fallback() if has_key else route.fulfill(status=401, json={"error": {"code": "UNAUTHENTICATED"}}))

    async with opened("about:blank") as page:
        await page.route("**/api/config", only_with_key)
        await page.goto(site.url)
        await problem(page, "no_key", "This page may not talk to the server")
        await page.evaluate("location.hash = 'token=let-me-in'")
        await page.click("[data-action=retry_now]")
        await phase(page, "idle")
        await expect(page.locator("#problem")).to_be_hidden()
        assert page.url == site.url, "a token does not stay in the address"


async def test_waiting_can_be_given_up(site: Site) -> None:
    async with opened(site.url) as page:
        await phase(page, "idle")
        await site.busy(times=1, retry_after_s=60)
        await page.click("#start-typing")
        await problem(page, "busy")
        await page.click("[data-action=cancel]")
        await phase(page, "ended")
        await expect(page.locator("#problem")).to_be_hidden()
        await expect(page.locator("#start")).to_be_visible()


async def test_what_cannot_be_answered_ends_nothing(site: Site) -> None:
    async with talking(site) as page:
        await typed(page, "fail")
        await problem(page, "turn_failed")
        await expect(page.locator("#problem-text")).to_contain_text("cannot be answered")
        await page.click("[data-action=dismiss]")
        await phase(page, "live")


async def test_a_session_taken_over_is_not_taken_back(site: Site) -> None:
    async with browser() as made, page_of(made) as page, page_of(made) as other:
        for each in (page, other):
            await each.goto(site.url)
            await phase(each, "idle")
        async with page.expect_response(lambda response: response.status == 201) as answered:
            await page.click("#start-typing")
        await phase(page, "live")
        taken = (await (await answered.value).header_value("location") or "").split("/")[2]
        await other.evaluate(
            """async (id) => {
                const { Connection } = await import("/static/js/connection.js");
                window.taker = new Connection([]);
                await taker.open(`whip?session=${id}`, null);
            }""",
            taken,
        )
        await problem(page, "taken_over", "The conversation goes on elsewhere")
        await phase(page, "ended")


async def test_ended_is_told_to_the_server(site: Site) -> None:
    async with opened(site.url) as page:
        await phase(page, "idle")
        await page.click("#start-typing")
        await phase(page, "live")
        async with page.expect_request(lambda request: request.method == "DELETE" and "/whip/" in request.url):
            await page.click("#end")
        await phase(page, "ended")
        await expect(page.locator("#start")).to_have_text("Start again")


async def test_without_webrtc(site: Site) -> None:
    async with browser() as made, page_of(made) as page:
        await page.add_init_script("delete window.RTCPeerConnection")
        await page.goto(site.url)
        await problem(page, "no_webrtc")


async def test_media_that_do_not_get_through(site: Site) -> None:
    async with browser() as made, page_of(made) as page:
        await page.add_init_script(
            """const Real = RTCPeerConnection;
            window.RTCPeerConnection = class extends Real {
                constructor(configuration) {
                    super({ ...configuration, iceTransportPolicy: "relay" });
                }
            };"""
        )
        await page.goto(site.url)
        await phase(page, "idle")
        await page.click("#start-typing")
        await problem(page, "no_path", "No media connection")
        await phase(page, "ended")


async def test_sound_that_needs_a_tap(site: Site) -> None:
    """Nothing may be asked of the page before: for Chromium, what Playwright evaluates is a gesture of the user."""
    async with browser(autoplay=False) as made, page_of(made) as page:
        await page.add_init_script(
            """addEventListener("DOMContentLoaded", () => {
                const [root, tap] = [document.documentElement, document.querySelector("#tap")];
                const watch = new MutationObserver(() => {
                    if (root.dataset.phase === "idle") document.querySelector("#start-typing").click();
                    if (!tap.hidden) console.log("tap wanted");
                });
                watch.observe(root, { subtree: true, attributes: true });
            });"""
        )
        async with page.expect_console_message(lambda message: message.text == "tap wanted"):
            await page.goto(site.url)
        assert await page.eval_on_selector("video", "video => video.muted")
        await page.click("#tap")
        await expect(page.locator("#tap")).to_be_hidden()
        assert not await page.eval_on_selector("video", "video => video.muted || video.paused")


async def test_chinese(site: Site) -> None:
    async with opened(site.url, look=Look(locale="zh-CN")) as page:
        await phase(page, "idle")
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await expect(page.locator("#start")).to_have_text("开始对话")
        await page.click("#start")
        await problem(page, "no_microphone", "未找到麦克风")
        await page.click("[data-action=type_instead]")
        await phase(page, "live")
        await expect(page.locator("#connection-text")).to_have_text("通话中")
        await typed(page, "世界上最高的山是哪一座？")
        await expect(page.locator(".reply").first).to_contain_text("珠穆朗玛峰")
        await expect(page.locator(".reply .now")).to_have_count(1)
        await page.click("#language")
        await expect(page.locator("#connection-text")).to_have_text("Live")
        await page.reload()
        await expect(page.locator("#start")).to_have_text("Start conversation")


async def test_both_languages_say_the_same_things(site: Site) -> None:
    async with opened(site.url) as page:
        words: dict[str, dict[str, str]] = await page.evaluate("import('/static/js/words.js').then((m) => m.WORDS)")
        used: list[str] = await page.evaluate(
            """[...document.querySelectorAll("[data-text], [data-label], [data-placeholder]")]
                .flatMap(({ dataset }) => [dataset.text, dataset.label, dataset.placeholder]).filter(Boolean)"""
        )
    assert words["en"].keys() == words["zh"].keys()
    assert len(used) > 20
    assert set(used) <= words["en"].keys()
    holes = {key for key, text in words["en"].items() if text.count("{") != words["zh"][key].count("{")}
    assert not holes


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", [(390, 844), (320, 568), (1440, 900), (844, 390)])
async def test_everything_is_within_reach(site: Site, size: tuple[int, int], locale: str) -> None:
    """Nothing is cut off at the sides, and every control can be scrolled to, has a name and is large enough for a finger."""
    look = Look(*size, phone=size[0] < 900, locale=locale)
    async with opened(site.url, look=look) as page:
        await phase(page, "idle")
        await expect(page.locator("#start")).to_be_visible()
        assert not await faults_of_layout(page)
        await page.click("#start-typing")
        await phase(page, "live")
        await expect(page.locator("html")).to_have_attribute("data-moving", "true")
        assert not await faults_of_layout(page)


async def faults_of_layout(page: Page) -> list[str]:
    found: list[str] = await page.evaluate(
        """() => {
            const faults = [];
            const controls = "button, select, summary, input:not([type=radio]), label:has([type=radio])";
            const wide = document.scrollingElement.scrollWidth;
            if (wide > innerWidth) faults.push(`${wide} px wide`);
            for (const element of document.querySelectorAll(controls)) {
                const box = element.getBoundingClientRect();
                if (!box.width || getComputedStyle(element).visibility === "hidden") continue;
                const name = element.ariaLabel || element.textContent.trim() || element.labels?.[0]?.textContent.trim();
                const told = `${element.id || element.className || name}`;
                if (!name) faults.push(`${told} has no name`);
                if (box.height < 36 || box.width < 36) faults.push(`${told} is ${box.width} x ${box.height}`);
                if (box.left < 0 || box.right > innerWidth + 0.5) faults.push(`${told} is cut off`);
                if (box.bottom > document.scrollingElement.scrollHeight + 0.5) faults.push(`${told} is below the page`);
            }
            return faults;
        }"""
    )
    return found


async def test_still_for_those_who_want_it_so(site: Site) -> None:
    async with talking(site, look=Look(motion="reduce")) as page:
        await typed(page, "Which mountain?")
        await expect(page.locator("html")).to_have_attribute("data-floor", "thinking")
        running: list[Any] = await page.evaluate("document.getAnimations().filter((a) => a.playState === 'running')")
        assert not running


async def test_captions_of_events_as_a_gateway_tells_them(site: Site) -> None:
    """What is being said has no turn of its own yet: it comes with none, or with that of the reply it is said into."""
    events = [
        ("transcript", {"turn": "", "text": "What", "final": False}),
        ("transcript", {"turn": "", "text": "What a day.", "final": True}),
        ("transcript", {"turn": "", "text": "And", "final": False}),
        ("transcript", {"turn": "a-1", "text": "What a day. And now?", "final": True}),
        ("clause", {"turn": "a-1", "index": 0, "text": "In 1889 they"}),
        ("clause", {"turn": "a-1", "index": 1, "text": "built a tower."}),
        ("words", {"turn": "a-1", "words": [{"word": "they", "start_ms": 1000, "end_ms": 2000}]}),
        ("transcript", {"turn": "a-1", "text": "Wait", "final": False}),
    ]
    async with opened(site.url) as page:
        await phase(page, "idle")
        await page.evaluate(
            """async (events) => {
                const { Captions } = await import("/static/js/captions.js");
                const place = Object.assign(document.createElement("div"), { id: "made" });
                const list = document.createElement("ol");
                place.append(list);
                document.body.append(place);
                window.at = 1500;
                window.captions = new Captions(place, list, document.createElement("div"), () => window.at);
                for (const [name, event] of events) captions[name](event);
            }""",
            events,
        )
        turns = page.locator("#made li")
        await expect(turns.locator(".user")).to_have_text(["What a day. And now?", "Wait"])
        await expect(turns.locator(".reply").first).to_have_text("In 1889 they built a tower.")
        await expect(turns.locator(".now")).to_have_text("they")
        await expect(turns.locator(".said")).to_have_text(["In", "1889"])
        await page.evaluate("captions.cut({ at_ms: 1200 })")
        await expect(turns.locator(".now, .said")).to_have_count(0)
        again = {"turn": "a-1", "words": [{"word": "they", "start_ms": 3000, "end_ms": 3500}]}
        await page.evaluate("words => { captions.words(words); window.at = 3100; }", again)
        await expect(turns.locator(".now")).to_have_text("they")
        await page.evaluate(
            "captions.done({ turn: 'a-1', outcome: 'interrupted', user_text: '', reply_text: 'In 1889 they' })"
        )
        await expect(turns.locator(".note")).to_have_text("interrupted")
        await expect(turns.locator(".user").nth(1)).to_have_attribute("data-state", "interim")
        await expect(turns).to_have_count(1)
