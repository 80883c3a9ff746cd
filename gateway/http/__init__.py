"""HTTP: WHIP and WHEP for browsers, JSON for scripts, the talk page. See `gateway.http.app`."""
