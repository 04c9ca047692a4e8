"""Numbers, times and sizes as people read them. Text goes through `html.escape` before HTML."""

from datetime import UTC, datetime
from html import escape


def duration(seconds: float) -> str:
    """Returns a length of time with its unit: "45 s", "3 min", "2 h 5 min", "3 days"."""
    seconds = max(seconds, 0.0)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 86_400:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = round(seconds / 86_400)
    return f"{days} day{'s' if days > 1 else ''}"


def ago(then: float, now: float) -> str:
    """Returns how long ago a time was: "just now", "3 min ago"."""
    return "just now" if now - then < 10 else f"{duration(now - then)} ago"


def exact_time(at: float) -> str:
    """Returns a time in full, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago_html(then: float | None, now: float) -> str:
    """Returns "3 min ago" with the exact time on hover."""
    if then is None:
        return "–"
    stamp = datetime.fromtimestamp(then, UTC).isoformat(timespec="seconds")
    return f'<time datetime="{stamp}" title="{exact_time(then)}">{escape(ago(then, now))}</time>'


def number(value: float | None) -> str:
    """Returns a number with four significant digits, large ones in full; "–" for none."""
    if value is None:
        return "–"
    if abs(value) < 1e9 and (value == int(value) or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def amount(value: float | None, unit: str) -> str:
    """Returns a number with its unit as a sentence has it: "0.25 nats", "63 %", "1 (of 0 to 2)"."""
    if value is None:
        return "not finite"
    if unit.startswith("share"):
        return f"{100 * value:.4g} %{unit.removeprefix('share')}"
    if unit[:1].isdigit():
        return f"{number(value)} (of {unit})"
    return f"{number(value)} {unit}".strip()


def size(num_bytes: float) -> str:
    """Returns a size in decimal units: "9.4 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(num_bytes) < 1000 or unit == "GB":
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError("the loop returns at its last unit")
