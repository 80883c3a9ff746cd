"""A real browser for tests: headless Chromium, driven by Playwright, with a microphone that plays a WAV file.

WebRTC on one machine needs no network namespace: Chromium is told to use loopback (`--allow-loopback-in-peer-connection`)
and to name its addresses (no mDNS); the gateway under test is given `WebRtcSettings(host="127.0.0.1")`.
Chromium is the one of the system; CHROMIUM names another. Nothing is downloaded.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect

Microphone = Path | Literal["none", "denied"]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = (
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,OverscrollHistoryNavigation",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--mute-audio",
)
PATIENCE_MS = 20_000
"""How long a thing on a page may take to be as it should; a noisy machine needs it."""
EXPECTED = re.compile(r"Failed to load resource|net::ERR_")
"""What the console says of requests that fail: the page tells of those itself."""

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (Debian: apt-get install chromium)")


@dataclass(frozen=True)
class Look:
    """How a page is shown."""

    width: int = 1440
    height: int = 900
    phone: bool = False
    scheme: Literal["light", "dark"] = "light"
    locale: str = "en-US"
    motion: Literal["reduce", "no-preference"] = "no-preference"


DESKTOP = Look()
PHONE = Look(390, 844, phone=True)


@asynccontextmanager
async def browser(
    microphone: Microphone = "none", flags: Sequence[str] = (), autoplay: bool = True
) -> AsyncIterator[Browser]:
    """Chromium. The microphone plays a WAV file (mono or stereo PCM) over and over, or is not there at all.

    `denied` is there, and pages do not get it. Without `autoplay`, sound needs a gesture of the user first.
    """
    chosen = [*FLAGS, *flags]
    if microphone != "none":
        chosen.append("--use-fake-device-for-media-stream")
    if isinstance(microphone, Path):
        chosen.append(f"--use-file-for-fake-audio-capture={microphone}")
    chosen.append(
        f"--autoplay-policy={'no-user-gesture-required' if autoplay else 'document-user-activation-required'}"
    )
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=chosen)
        try:
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def page_of(made: Browser, allowed: bool = True, look: Look = DESKTOP) -> AsyncIterator[Page]:
    """A page in a profile of its own, which may use the microphone or not. Errors in its scripts fail the test."""
    context: BrowserContext = await made.new_context(
        viewport={"width": look.width, "height": look.height},
        device_scale_factor=2 if look.phone else 1,
        is_mobile=look.phone,
        has_touch=look.phone,
        color_scheme=look.scheme,
        reduced_motion=look.motion,
        locale=look.locale,
        permissions=["microphone"] if allowed else [],
    )
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    wrong: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not EXPECTED.search(message.text):
            wrong.append(message.text)

    try:
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", listen)
        yield page
    finally:
        await context.close()
    assert not wrong, wrong


@asynccontextmanager
async def opened(
    url: str, microphone: Microphone = "none", look: Look = DESKTOP, autoplay: bool = True
) -> AsyncIterator[Page]:
    """A page at `url` in a browser of its own."""
    async with (
        browser(microphone, autoplay=autoplay) as made,
        page_of(made, allowed=isinstance(microphone, Path), look=look) as page,
    ):
        await page.goto(url)
        yield page


async def playing(page: Page, selector: str = "video") -> dict[str, float]:
    """What a video element shows: `width`, `frames` decoded so far, `seconds` played."""
    found: dict[str, float] = await page.eval_on_selector(
        selector,
        "v => ({width: v.videoWidth, frames: v.getVideoPlaybackQuality().totalVideoFrames, seconds: v.currentTime})",
    )
    return found


async def loudness(page: Page, selector: str = "video") -> float:
    """Root mean square (1 is full scale) of what arrives as sound at a media element with a stream, over half a second."""
    found: float = await page.eval_on_selector(
        selector,
        """async v => {
            const context = new AudioContext(), analyser = context.createAnalyser(), part = new Float32Array(2048);
            analyser.fftSize = part.length;
            context.createMediaStreamSource(v.srcObject).connect(analyser);
            let most = 0;
            for (let i = 0; i < 25; i++) {
                await new Promise((done) => setTimeout(done, 20));
                analyser.getFloatTimeDomainData(part);
                most = Math.max(most, Math.sqrt(part.reduce((sum, x) => sum + x * x, 0) / part.length));
            }
            await context.close();
            return most;
        }""",
    )
    return found
