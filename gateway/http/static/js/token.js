// The token that the page shows to the gateway. It comes in the address behind "#token=", which browsers send to nobody,
// and is kept for this tab alone.

const KEPT = "talkmesh.token";
let token = "";

/** Take the token out of the address, or take up what this tab was given before. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (given) sessionStorage.setItem(KEPT, given);
    token = given || sessionStorage.getItem(KEPT) || "";
  } catch {
    token = given || ""; // A browser that keeps nothing: until the page is loaded again.
  }
}

/** Headers of a request, with the token if there is one. */
export function shown(headers = {}) {
  return token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
}
