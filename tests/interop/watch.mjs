// Opens a page in Chromium and says what happens there, as one line of JSON on standard output.
//
//   node watch.mjs PLAYWRIGHT URL SECONDS [SEEK]
//
// Plays for so many seconds from the first picture on, then seeks back by SEEK seconds if that is given, and plays for two
// more. `clock` is how far the video's clock got, `pictures` how many were shown, `foreign` what was asked of any other
// server, `errors` what the console and the page complain of.
const [playwright, url, seconds, seek] = process.argv.slice(2);
const { chromium } = await import(playwright);

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  ],
});
const said = { clock: 0, pictures: 0, foreign: [], errors: [], ways: [], seeked: null };
try {
  const page = await browser.newPage();
  page.on("console", (message) => message.type() === "error" && said.errors.push(message.text()));
  page.on("pageerror", (error) => said.errors.push(String(error)));
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (["http:", "https:", "ws:", "wss:"].includes(asked.protocol) && asked.host !== new URL(url).host) {
      said.foreign.push(request.url());
    }
  });
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("video").currentTime > 0 &&
    document.querySelector("video").readyState >= 3, null, { timeout: 20000 });
  const look = () => page.evaluate(() => {
    const video = document.querySelector("video");
    const quality = video.getVideoPlaybackQuality();
    return {
      time: video.currentTime, pictures: quality.totalVideoFrames, width: video.videoWidth,
      facts: document.querySelector("#facts").textContent, paused: video.paused,
      start: video.seekable.length ? video.seekable.start(0) : null,
    };
  });
  const first = await look();
  await page.waitForTimeout(1000 * Number(seconds));
  const last = await look();
  said.clock = last.time - first.time;
  said.pictures = last.pictures - first.pictures;
  said.width = last.width;
  said.facts = last.facts;
  if (seek) {
    const to = Math.max(last.start, last.time - Number(seek));
    await page.evaluate((to) => { document.querySelector("video").currentTime = to; }, to);
    await page.waitForTimeout(2000);
    const after = await look();
    said.seeked = { to, clock: after.time - to, pictures: after.pictures - last.pictures };
  }
} catch (error) {
  said.errors.push(String(error));
}
await browser.close();
console.log(JSON.stringify(said));
