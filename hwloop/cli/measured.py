"""How the result of `hwloop measure` is shown."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hwloop.profiling import NetworkResult, Profile, Timing

MB = 1e6


def show(result: NetworkResult, console: Console) -> None:
    """Print a result: the network, its memory, its layers, its profile."""
    console.print(
        f"\n[bold]{escape(result.model)}[/] in {escape(result.runtime)} {result.runtime_version or ''}, "
        f"threads {result.threads}, on {escape(result.device)} ({escape(result.cpu)})",
        highlight=False,
        soft_wrap=True,
    )
    table = _table(("", "value", "how"))
    table.add_row("end to end", _latency(result.end_to_end), _how(result.end_to_end))
    if result.sum_ms is not None:
        gap = "" if result.gap is None else f"{100 * result.gap:+.1f} % of end to end"
        table.add_row("sum of layers alone", f"{result.sum_ms:.4f} ms", gap)
    elif result.layers is not None:
        table.add_row("sum of layers alone", "–", f"{len(result.missing)} layers have no number, see below")
    for one in result.memory:
        table.add_row(one.what, f"{one.bytes / MB:.3f} MB", one.method)
    if result.artifact_bytes is not None:
        table.add_row("artifact", f"{result.artifact_bytes / MB:.3f} MB", "the file that was loaded")
    if result.parameters is not None and result.macs is not None:
        table.add_row("parameters, MACs", f"{result.parameters:,}, {result.macs:,}", "computed from the shapes")
    floor = "–" if result.noise_floor is None else f"{100 * result.noise_floor:.1f} %"
    table.add_row("noise floor", floor, "median difference of two processes that measured the same")
    console.print(table)
    if result.layers:
        _show_layers(result, console)
    for name, reason in result.missing.items():
        console.print(f"[yellow]no number:[/] {escape(name)}: {escape(reason)}", highlight=False, soft_wrap=True)
    if result.profile is not None:
        _show_profile(result.profile, console)


def _show_layers(result: NetworkResult, console: Console) -> None:
    table = _table(("layer alone", "times", "ms", "interval", "beyond weights and activations, MB", "status"))
    for layer in sorted(result.layers or (), key=lambda one: -len(one.names) * (one.timing.latency_ms or 0.0)):
        low, latency, high = layer.timing.numbers
        beyond = next((one.bytes / MB for one in layer.memory if one.what.startswith("beyond")), None)
        usable = layer.timing.usable
        table.add_row(
            escape(layer.key),
            str(len(layer.names)),
            f"{latency:.4f}" if usable else "–",
            f"{low:.4f}–{high:.4f}" if usable else "–",
            "–" if beyond is None else f"{beyond:.2f}",
            layer.timing.status,
        )
    console.print(table)
    doubtful = [layer for layer in result.layers or () if layer.timing.status == "degraded"]
    if doubtful:
        reason = escape(doubtful[0].timing.reasons[0])
        text = f"[yellow]degraded:[/] {len(doubtful)} layers were measured under bad conditions, the first: {reason}"
        console.print(text, highlight=False, soft_wrap=True)
    console.print(f"[dim]layers joined by the rules {escape(result.fusion or '–')}[/]", highlight=False)


def _show_profile(profile: Profile, console: Console) -> None:
    if not profile.rows:
        reasons = escape("; ".join(profile.reasons))
        console.print(f"[yellow]no profile:[/] {profile.status}: {reasons}", highlight=False, soft_wrap=True)
        return
    overhead = profile.overhead
    said = "unknown" if overhead is None else f"{100 * overhead:+.1f} %"
    console.print(
        f"profile ({escape(profile.method)}; {profile.runs} runs): end to end {profile.profiled_ms:.4f} ms, overhead "
        f"{said}; rows together {profile.sum_ms:.4f} ms, "
        f"of which {100 * profile.unmapped_share:.1f} % belong to no layer",
        highlight=False,
        soft_wrap=True,
    )
    if not profile.trusted:
        console.print(f"[yellow]the rows are no costs of layers:[/] {escape(profile.doubt)}", highlight=False)
    table = _table(("operator", "kind", "ms", "share", "layer"))
    for row in profile.rows:
        share = f"{100 * row.latency_ms / profile.sum_ms:.1f} %" if profile.sum_ms else "–"
        layer = escape(row.layer) if row.layer else "[dim]unmapped[/]"
        table.add_row(escape(row.name), escape(row.op), f"{row.latency_ms:.4f}", share, layer)
    console.print(table)


def _table(columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    right = {"ms", "value", "times", "share", "beyond weights and activations, MB"}
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _latency(timing: Timing) -> str:
    low, latency, high = timing.numbers
    return f"{latency:.4f} ms ({low:.4f}–{high:.4f})" if timing.usable else "–"


def _how(timing: Timing) -> str:
    # Every process has its own figures in its reasons; one of each kind is enough here, the file has all.
    kinds = {reason.lstrip("0123456789.% "): reason for reason in timing.reasons}
    text = ": ".join(part for part in (timing.status, "; ".join(kinds.values())) if part)
    if timing.usable:
        text += f", median of {len(timing.process_medians_ms)} processes"
    return escape(text)
