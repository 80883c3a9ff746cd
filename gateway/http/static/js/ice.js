// Candidates: gathered before the offer is sent, and those that come too late for that.

const GATHER_MS = 1500;

/** Resolves when all candidates are in the local description, or after GATHER_MS: slow STUN servers are not waited for. */
export function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** A trickle-ice-sdpfrag (RFC 8840) of candidates that belong to the first media section. */
export function fragmentOf(sdp, candidates) {
  const found = (name) => sdp.match(new RegExp(`^a=${name}:.*$`, "m"))?.[0].trim() ?? "";
  const media = sdp.match(/^m=.*$/m)?.[0].trim() ?? "";
  const lines = candidates.map((candidate) => `a=${candidate.candidate}`);
  return [found("ice-ufrag"), found("ice-pwd"), media, found("mid"), ...lines, ""].join("\r\n");
}

/** ICE servers of a Link header: <turn:host>; rel="ice-server"; username="…"; credential="…". */
export function linkedServers(header) {
  const servers = [];
  for (const link of (header || "").split(/,(?=\s*<)/)) {
    const url = link.match(/<([^>]+)>/)?.[1];
    if (!url || !/rel="?ice-server"?/.test(link)) continue;
    const value = (name) => link.match(new RegExp(`${name}="([^"]*)"`))?.[1];
    const username = value("username");
    servers.push(username === undefined ? { urls: [url] } : { urls: [url], username, credential: value("credential") ?? "" });
  }
  return servers;
}
