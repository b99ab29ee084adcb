// Plays one stream: by HLS with low latency where the server has it and the browser can, else by HTTP-FLV.
"use strict";

const video = document.querySelector("video");
const said = document.querySelector("#said");
const facts = document.querySelector("#facts");
const stream = location.pathname.slice("/watch/".length);
// What the page was opened with (a token, say) is shown to the server again.
const query = location.search;
const playlist = `/hls/${stream}/index.m3u8${query}`;
const flv = `/${stream}.flv${query}`;

let player = null;
let way = "";

function say(text) {
  said.textContent = text;
}

function end() {
  if (player) {
    player.destroy();
    player = null;
  }
}

function again(why) {
  end();
  say(`${why} Trying again …`);
  setTimeout(begin, 2000);
}

function byHls() {
  way = "HLS, low latency";
  const hls = new Hls({ lowLatencyMode: true, backBufferLength: 60, enableWorker: false });
  player = hls;
  hls.on(Hls.Events.ERROR, (_, error) => {
    if (error.fatal) {
      again(`The stream broke off (${error.details}).`);
    }
  });
  hls.loadSource(playlist);
  hls.attachMedia(video);
}

function byFlv() {
  way = "HTTP-FLV";
  const settings = { enableWorker: false, liveBufferLatencyChasing: true, liveBufferLatencyMaxLatency: 1.5 };
  const source = { type: "flv", isLive: true, url: new URL(flv, location.href).href };
  player = mpegts.createPlayer(source, settings);
  player.on(mpegts.Events.ERROR, (_, detail) => again(`The stream broke off (${detail}).`));
  player.on(mpegts.Events.LOADING_COMPLETE, () => again("The stream has ended."));
  player.attachMediaElement(video);
  player.load();
}

async function begin() {
  let answer;
  try {
    answer = await fetch(playlist);
  } catch {
    return again("The server does not answer.");
  }
  if (answer.status === 403) {
    return say("You may not watch this: open it with ?token=… or ?user=…&password=… as you were told.");
  }
  if (answer.ok && window.Hls && Hls.isSupported()) {
    byHls();
  } else if (answer.ok && video.canPlayType("application/vnd.apple.mpegurl")) {
    way = "HLS";
    video.src = playlist;
  } else if (window.mpegts && mpegts.getFeatureList().mseLivePlayback) {
    byFlv();
  } else {
    return say("This browser has no Media Source Extensions and cannot play the stream.");
  }
  video.play().catch(() => {});
}

video.addEventListener("playing", () => say(""));
setInterval(() => {
  const end = video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0;
  const ahead = Math.max(0, end - video.currentTime);
  const size = video.videoWidth ? `${video.videoWidth} × ${video.videoHeight} · ` : "";
  const late = player && player.latency ? ` · ${player.latency.toFixed(1)} s behind` : "";
  facts.textContent = player ? `${size}${way} · ${ahead.toFixed(1)} s buffered${late}` : "";
}, 500);

begin();
