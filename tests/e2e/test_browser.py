"""A person at the talk page: Debian's Chromium with a microphone that plays a recording, and the whole mesh behind it.

What is asserted is what the browser received: the energy of the sound that it would play, and pixels of the face that move.
"""

import asyncio
import shutil
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from talkmesh import read_wav
from talkmesh.credentials import token_for

CHROMIUM = shutil.which("chromium")
RATE = 16000
QUIET_FIRST_S, BETWEEN_S, QUIET_LAST_S = 4.0, 14.0, 120.0
FLAGS = (
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
    "--no-sandbox",
)
WATCH = """() => {
  const video = document.getElementById("video");
  const stream = video.srcObject;
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 2048;
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 128;
  const pixels = canvas.getContext("2d", { willReadFrequently: true });
  let before = null;
  window.watched = [];
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const energy = Math.sqrt(samples.reduce((sum, each) => sum + each * each, 0) / samples.length);
    pixels.drawImage(video, 0, 0, 128, 128);
    const mouth = pixels.getImageData(40, 72, 48, 32).data;
    let motion = 0;
    if (before) for (let at = 0; at < mouth.length; at += 4) motion += Math.abs(mouth[at] - before[at]);
    before = mouth;
    const floor = document.documentElement.dataset.floor;
    window.watched.push({ at: performance.now(), energy, motion: motion / (mouth.length / 4), floor });
  }, 80);
}"""


def microphone(path: Path, question: Path) -> Path:
    """Quiet, a question, a pause, and the same question again."""
    spoken = read_wav(question).data

    def quiet(seconds: float) -> bytes:
        return bytes(2 * round(RATE * seconds))

    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(quiet(QUIET_FIRST_S) + spoken + quiet(BETWEEN_S) + spoken + quiet(QUIET_LAST_S))
    return path


@asynccontextmanager
async def page_with(wav: Path, size: tuple[int, int] = (1440, 900)) -> AsyncIterator[Page]:
    """A page of a browser that hears this recording, once."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-audio-capture={wav}%noloop"]
        )
        try:
            context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, locale="en-US")
            yield await context.new_page()
        finally:
            await browser.close()


async def said(page: Page) -> list[str]:
    """What the captions show now, a line a turn's side."""
    return [text.strip() for text in await page.locator("#turns li").all_inner_texts()]


async def until(page: Page, condition: str, within_s: float = 60) -> None:
    """Wait until an expression of JavaScript is true."""
    async with asyncio.timeout(within_s):
        # Playwright's own waiting needs eval, which the page's policy forbids.
        while not await page.evaluate(f"() => {condition}"):
            await asyncio.sleep(0.1)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
async def test_a_person_talks_to_the_page_interrupts_and_goes_on(
    addresses: dict[str, str], question: Path, tmp_path: Path
) -> None:
    errors: list[str] = []
    async with page_with(microphone(tmp_path / "microphone.wav", question)) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"http://{addresses['http']}/#token={token_for(addresses['gateway'])}")
        assert "token" not in page.url
        await page.click("#start")
        await until(page, "document.documentElement.dataset.phase === 'live'")
        await until(page, "document.getElementById('video').videoWidth > 0")
        await page.evaluate(WATCH)
        # The question is heard, and answered by a voice and a mouth that moves.
        await until(page, "document.documentElement.dataset.floor === 'speaking'")
        await until(page, "document.documentElement.dataset.floor !== 'speaking'")
        first = await said(page)
        assert any("capital of france" in line.lower() for line in first), first
        check_answer(await page.evaluate("window.watched"))
        # A long answer, asked for in writing, is interrupted by the voice, which then is answered.
        await page.fill("#text", "Tell me a long story about the sea and the people who live by it.")
        await page.press("#text", "Enter")
        await until(page, "document.documentElement.dataset.floor === 'speaking'")
        asked_again = "document.getElementById('turns').innerText.toLowerCase().split('capital of france').length"
        await until(page, f"{asked_again} > {count(first) + 1}")
        await until(page, "document.documentElement.dataset.floor === 'speaking'")
        await until(page, "document.documentElement.dataset.floor !== 'speaking'")
        await asyncio.sleep(0.3)
        last = await said(page)
        assert count(last) > count(first), last
        await page.click("#end")
        await until(page, "document.documentElement.dataset.phase === 'ended'")
    assert errors == []


def count(lines: list[str]) -> int:
    return sum(line.lower().count("capital of france") for line in lines)


def check_answer(watched: list[dict[str, Any]]) -> None:
    """While the face spoke there was sound and a moving mouth; before, silence and a mouth at rest."""
    spoke = [each for each in watched if each["floor"] == "speaking"]
    quiet = [each for each in watched[2:] if each["at"] < spoke[0]["at"] - 300]
    assert len(spoke) >= 8 and len(quiet) >= 8
    assert max(each["energy"] for each in spoke) > 0.02
    assert max(each["energy"] for each in quiet) < 0.005
    moving, resting = (sorted(each["motion"] for each in part) for part in (spoke, quiet))
    assert moving[len(moving) * 3 // 4] > 2 * resting[len(resting) * 3 // 4] + 0.2
