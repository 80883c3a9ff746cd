"""The figures for people."""

from typing import Any


def told(found: dict[str, Any]) -> str:
    """A summary of what a run has found."""
    swaps = f"{found['swaps']} swaps, {found['swaps_loaded']} of them loaded"
    kinds = f"stretches without and with swaps: {listed(found['blocks_s'], 's')}"
    lines = [
        f"{found['service']} ({found['engine']} engine): {swaps}; {found['machine']}",
        *streams(found),
        f"load: {listed(found['load'], '')}; {kinds}",
    ]
    lines += gaps("gap between chunks", found["gap_ms"])
    if pictures := found.get("video_gap_ms"):
        lines += gaps("the same of pictures", pictures)
    if beside := found.get("neighbour_gap_ms"):
        lines += gaps("the same, of the neighbour nobody swaps", beside)
    if growth := found.get("resources"):
        lines += memory(found, growth)
    for key, about in TIMES.items():
        if spread := found.get(key):
            lines.append(f"{about}: {listed(spread, 'ms')}")
    if peer := found.get("peer"):
        lines += peer_lines(peer)
    return "\n".join(lines)


TIMES = {
    "swap_ms": "put until the host is seen to serve the model",
    "phases_ms": "median time in each phase",
    "rollback_ms": "rollback to a warm model, put until new streams are served by it",
    "put_to_observed_ms": "put until all hosts are seen to know",
    "ttfa_ms": "first audio of a turn",
}


def streams(found: dict[str, Any]) -> list[str]:
    ends = [f"{found['streams_failed']} failed", f"{found['streams_truncated']} truncated"]
    if found["mixed_chunks"] is not None:
        ends.append(f"{found['mixed_chunks']} mixed chunks")
    if refused := found.get("sessions_refused"):
        ends.append(f"{refused} times a new session was told to come again later")
    if "turns_handed_over" in found:
        ends.append(f"{found['turns_handed_over']} handed over to the model after")
    why = [f"  failed by: {reason}" for reason in found.get("failures", ())]
    return [f"streams: {found['streams']}, {', '.join(ends)}", *why]


def gaps(title: str, figures: dict[str, float]) -> list[str]:
    def row(kind: str) -> str:
        cells = (f"{figures[f'{kind}_{name}']:>9.2f}" for name in ("p50", "p99", "p999", "max"))
        return f"  {kind:<6}{''.join(cells)}{figures[f'{kind}_n']:>10}"

    head = "        " + "".join(f"{name:>9}" for name in ("p50", "p99", "p99.9", "max")) + f"{'chunks':>10}"
    added = f"  added  p99 {figures['added_p99']:+.2f} ms, max {figures['added_max']:+.2f} ms"
    over = f"{figures['share_over']:.2f} % of chunks beyond the p99 without swaps"
    return [f"{title}, lateness in ms:", head[2:], row("base"), row("swap"), f"{added}; {over}"]


def memory(found: dict[str, Any], looks: dict[str, Any]) -> list[str]:
    lines = [f"memory: host {found['rss_growth_pct']} %, host and engines {found['service_rss_growth_pct']} %"]
    for when, look in looks.items():
        cells = (f"{who} {listed(held, '')}" for who, held in look.items())
        lines.append(f"  {when.replace('_', ' ')}: {'; '.join(cells)}")
    return lines


def peer_lines(peer: dict[str, Any]) -> list[str]:
    name = f"peer {peer['name']} {peer['version']}"
    if why := peer.get("not_measured"):
        return [f"{name}: {why}"]
    lines = []
    for figures in filter(None, (peer, peer.get("inline"))):
        took = listed(figures["swap_ms"], "ms")
        lines += [f"{name}, loading {WHERE[figures['load']]}: {figures['swaps']} reloads, {took}", *streams(figures)]
        lines += gaps("gap between chunks", figures["gap_ms"])
    return lines


WHERE = {"thread": "in a thread", "inline": "on its event loop"}


def listed(values: dict[str, Any], unit: str) -> str:
    shown = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items()) + (f" {unit}" if unit else "")
