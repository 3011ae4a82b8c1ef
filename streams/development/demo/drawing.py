"""The timeline on a terminal. Called by `tour`; calls rich."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streams.development.demo.scenes import Moment, Scene, Speaker

_SPEAKER_STYLES = {Speaker.YOU: "bold cyan", Speaker.ENGINE: "bold", Speaker.LOG: "dim"}


def draw_scene(console: Console, scene: Scene, *, number: int, count: int) -> None:
    """Print one scene: its title, its moments in order of time, and what was not as expected."""
    console.print()
    console.print(Text.assemble((f"{number}/{count} {scene.title}", "bold"), ("   " + scene.meaning, "italic dim")))
    table = Table("", "who", "what", "", box=None, show_header=False, padding=(0, 1))
    moments = sorted(scene.moments, key=lambda each: each.at_ms)
    for moment in moments:
        table.add_row(
            Text(f"+{moment.at_ms - moments[0].at_ms:>5} ms", style="dim"),
            Text(moment.speaker.value, style=_SPEAKER_STYLES[moment.speaker]),
            _what(moment),
            Text(_printable(moment.details), style="dim" if moment.speaker is Speaker.LOG else ""),
        )
    console.print(table)
    for fault in scene.faults:
        console.print(Text(f"  NOT AS EXPECTED: {_printable(fault)}", style="bold red"))


def _what(moment: Moment) -> Text:
    if moment.as_expected is None:
        return Text(moment.what, style=_log_style(moment))
    mark, style = ("✓", "bold green") if moment.as_expected else ("✗", "bold red")
    return Text.assemble((f"{mark} {moment.what}", style))


def _log_style(moment: Moment) -> str:
    if moment.speaker is not Speaker.LOG:
        return ""
    if moment.what.startswith("dead letter"):
        return "red"
    return "yellow" if moment.what.startswith("gateway") else "green" if "." in moment.what else ""


def _printable(text: str) -> str:
    # What stands on a log may come from strangers; it must not steer a terminal.
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
