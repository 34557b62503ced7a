"""`hwloop device`: the devices that can be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwloop.cli.facts import fact_rows
from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.devices import Device
    from hwloop.devices.health import HealthReport
    from hwloop.devices.ssh.hostkey import UnknownHostKeyError
    from hwloop.devices.tuning import Change

app = typer.Typer(help="The devices that can be measured.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The device's name.")]
File = Annotated[
    Path | None, typer.Option("--inventory", help="This devices.toml, instead of the project's and the user's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]

REPLAY_URL = "replay:"

COLOURS = {"good": "green", "degraded": "yellow", "bad": "red", "maintenance": "magenta", "unknown": "dim"}


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="device")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    url: Annotated[
        str,
        typer.Argument(
            help="ssh://user@host[:port], host may be an alias of ~/.ssh/config; or replay:PATH of a table or journal."
        ),
    ],
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(help="The host key's SHA256:… instead of being asked; again for each jump host."),
    ] = None,
    identity: Annotated[str | None, typer.Option(help="A key file to log in with.")] = None,
    jump: Annotated[str | None, typer.Option(help="Jump hosts, as ssh -J takes them.")] = None,
    python: Annotated[str, typer.Option(help="The device's Python for the agent, 3.8 or later.")] = "python3",
    worker_python: Annotated[str | None, typer.Option(help="The device's Python that has the runtimes.")] = None,
    root: Annotated[str | None, typer.Option(help="The agent's directory there; ~/.cache/hwloop by default.")] = None,
    project: Annotated[
        bool | None, typer.Option("--project/--user", help="Write ./devices.toml, or the user's inventory.")
    ] = None,
    inventory: File = None,
) -> None:
    """Add a device: checks its host key with you, logs in, and writes it down. Of a recording, checks that it opens."""
    from hwloop.devices import Device, SshAccess, replay_device
    from hwloop.devices.devicefile import add_device, check_name
    from hwloop.devices.introduction import introduce
    from hwloop.devices.ssh.hostkey import FINGERPRINT
    from hwloop.devices.ssh.route import Address

    path = _file_to_write(project, inventory)
    check_name(path, name)
    if url.startswith(REPLAY_URL):
        recording = replay_device(name, Path(url.removeprefix(REPLAY_URL)))
        recording.open_transport().close()
        add_device(path, recording)
        typer.echo(f"added {name} to {path}; what it answers was measured before and is marked as replayed")
        return
    for one in fingerprint or ():
        if not FINGERPRINT.match(one):
            raise UserError(f"{one!r} is no fingerprint; it is SHA256: and 43 characters, as ssh-keygen -l prints it")
    if root is not None and not root.startswith("/"):
        raise UserError(f"--root {root!r} is not an absolute path of the device")
    address = Address.parse(url)
    key_file = str(Path(identity).expanduser().absolute()) if identity is not None else None
    access = SshAccess(address.host, address.port, address.user, key_file, jump=jump)
    device = introduce(
        Device(name, "ssh", python, worker_python or python, root, access), _ask, fingerprints=fingerprint or ()
    )
    add_device(path, device)
    typer.echo(f"added {name} to {path}; look at it with: hwloop device check {name}")


def _ask(unknown: UnknownHostKeyError) -> bool:
    """Let the person at the terminal compare the fingerprint."""
    what = f"jump host {unknown.address}" if unknown.is_hop else unknown.address
    shown = f"{what} shows the host key {unknown.key.type} {unknown.key.fingerprint}"
    if not sys.stdin.isatty():
        raise UserError(
            f"{shown}, and nobody is here to be asked; compare it with `ssh-keygen -lf"
            " /etc/ssh/ssh_host_ed25519_key.pub` typed on that machine, then give"
            f" --fingerprint {unknown.key.fingerprint}"
        )
    typer.echo(f"{shown}.\nOn that machine, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints the true one.")
    return typer.confirm("Are they the same?", default=False)


@app.command("list")
def list_(as_json: AsJson = False, inventory: File = None) -> None:
    """Show the devices and their health."""
    from rich import box
    from rich.table import Table

    from hwloop.devices.health import load_health
    from hwloop.devices.inventory import Inventory

    found = Inventory.find(file=inventory)
    rows = [(device, load_health(device), found.file_of(device.name)) for device in found.devices()]
    if as_json:
        typer.echo(json.dumps([_row(*row) for row in rows], indent=1))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("device", "address", "health", "checked", "from"):
        table.add_column(title, overflow="fold")
    for device, report, file in rows:
        colour = COLOURS.get(report.health, "dim")
        table.add_row(
            device.name,
            device.address,
            f"[{colour}]{report.health}[/]",
            report.checked_at or "never",
            "always there" if file is None else str(file),
        )
    Console().print(table)


def _row(device: Device, report: HealthReport, file: Path | None) -> dict[str, Any]:
    access = device.ssh
    return {
        "name": device.name,
        "transport": device.transport,
        "address": device.address,
        "fingerprint": access.host_key.fingerprint if access is not None and access.host_key is not None else None,
        "python": device.python,
        "worker_python": device.worker_python,
        "root": device.root,
        "health": report.health,
        "reasons": list(report.reasons),
        "checked_at": report.checked_at or None,
        "inventory": None if file is None else str(file),
    }


@app.command("facts")
def facts(name: Name, as_json: AsJson = False, inventory: File = None) -> None:
    """Ask a device what it is, and which runtimes it can import."""
    from hwloop.devices import AgentSession
    from hwloop.devices.inventory import Inventory

    device = Inventory.find(file=inventory).get(name)
    session = AgentSession.open(
        device.open_transport(),
        session_id="facts",
        root=device.root,
        board=device.board_profile(),
        worker_python=device.worker_python,
        on_wait=lambda text: typer.echo(text, err=True),
    )
    with session:
        told = session.facts()
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    _show_facts(name, told)


def _show_facts(name: str, told: dict[str, Any]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = escape(name)
    if told.get("emulated"):
        title += f": [bold red]EMULATED[/], its times say nothing about hardware ({escape(str(told['emulation']))})"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, text in fact_rows(told):
        table.add_row(escape(key), escape(text))
    Console().print(table)


@app.command("tune")
def tune(
    name: Name,
    only_show: Annotated[bool, typer.Option("--show", help="Show what would be changed, and change nothing.")] = False,
    put_back: Annotated[bool, typer.Option("--restore", help="Put back what a tuning that was cut off left.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    inventory: File = None,
) -> None:
    """Hold a device's frequency governor at `performance` until Ctrl-C, then put it back. Needs root there.

    Nothing else tunes a device: by default hwloop observes and warns. The old values are written down on the device
    before anything is changed; should the connection break, the device puts itself back, at the latest when it is
    connected to again.
    """
    from hwloop.devices import tuning
    from hwloop.devices.inventory import Inventory

    if only_show and put_back:
        raise UserError("--show and --restore exclude each other")
    device = Inventory.find(file=inventory).get(name)
    if put_back:
        changes = tuning.restore(device)
        _say_changes(changes, "put back")
        if not changes:
            typer.echo(f"{name}: nothing was left tuned")
        return
    found = tuning.show(device)
    _say_changes(found.changes, "would change")
    if found.is_tuned:
        typer.echo(f"{name} is tuned now, or was left so: `hwloop device tune {name} --restore`")
    if not found.changes:
        typer.echo(f"{name}: there is nothing to change")
    if only_show or not found.changes:
        return
    if not yes and not sys.stdin.isatty():
        raise UserError("nobody is here to be asked whether this may be changed; scripts say --yes")
    if not yes and not typer.confirm("Change this until Ctrl-C?", default=False):
        raise typer.Exit(1)
    _hold(device)


def _hold(device: Device) -> None:
    import signal
    import threading

    from hwloop.devices import tuning

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())

    def on_held(changes: tuple[Change, ...]) -> None:
        _say_changes(changes, "changed")
        typer.echo(f"{device.name} is tuned; Ctrl-C puts it back")

    tuning.hold(device, lambda seconds: not over.wait(seconds), on_held)
    typer.echo(f"{device.name} is as it was")


def _say_changes(changes: tuple[Change, ...], verb: str) -> None:
    for change in changes:
        typer.echo(f"{verb} /sys/{change.file}: {change.before} -> {change.after}")


@app.command("check")
def check(name: Name, as_json: AsJson = False, inventory: File = None) -> None:
    """Check whether a device's numbers can be trusted; the verdict is kept. Exit code 1: it is bad."""
    from rich.markup import escape

    from hwloop.devices.health import BAD, MAINTENANCE, check_device, load_health, save_health
    from hwloop.devices.inventory import Inventory

    device = Inventory.find(file=inventory).get(name)
    report = check_device(device, on_wait=lambda text: typer.echo(text, err=True))
    in_maintenance = load_health(device).health == MAINTENANCE
    if not in_maintenance:
        save_health(device, report)
    if as_json:
        content: dict[str, Any] = {
            "health": report.health,
            "reasons": list(report.reasons),
            "checked_at": report.checked_at,
        }
        content["maintenance"] = in_maintenance
        typer.echo(json.dumps({"name": name, **content, "figures": dict(report.figures)}, indent=1))
    else:
        console = Console()
        console.print(f"{escape(name)}: [{COLOURS[report.health]}]{report.health}[/]", highlight=False)
        for reason in report.reasons:
            console.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)
        for line in _figures(report):
            console.print(f"  [dim]{escape(line)}[/]", highlight=False, soft_wrap=True)
        if in_maintenance:
            console.print(f"  it stays in maintenance until: hwloop device mark {escape(name)} clear", highlight=False)
    if report.health == BAD:
        raise typer.Exit(1)


def _figures(report: HealthReport) -> list[str]:
    told = report.figures
    if not told:
        return []
    free = "unknown" if told["free_bytes"] is None else f"{told['free_bytes'] / 1e9:.1f} GB"
    runtimes = ", ".join(f"{name} {how}" for name, how in told["runtimes"].items())
    return [
        f"connected and ready in {told['connect_s']:.2f} s; canary varies by {100 * told['canary_spread']:.1f} %;"
        f" disk left: {free}; clock off by {told['clock_off_s']:+.0f} s",
        f"runtimes: {runtimes}",
    ]


@app.command("mark")
def mark(
    name: Name,
    word: Annotated[str, typer.Argument(metavar="maintenance|clear", help="What to mark it as.")],
    reason: Annotated[str, typer.Option(help="Of the maintenance, for those who find it so.")] = "",
    inventory: File = None,
) -> None:
    """Put a device into maintenance, which campaigns respect, or clear what is known about its health."""
    from hwloop.devices.health import begin_maintenance, forget_health
    from hwloop.devices.inventory import Inventory

    device = Inventory.find(file=inventory).get(name)
    if word == "maintenance":
        begin_maintenance(device, reason)
        typer.echo(f"{name} is in maintenance; end it with: hwloop device mark {name} clear")
    elif word == "clear":
        forget_health(device)
        typer.echo(f"{name} is cleared; its health is unknown until: hwloop device check {name}")
    else:
        raise UserError(f"a device can be marked maintenance or clear, not {word!r}")


@app.command("remove")
def remove(name: Name, inventory: File = None) -> None:
    """Forget a device. What is on the device stays there; `hwloop agent remove` cleans it up first."""
    from hwloop.devices.device import LOCAL
    from hwloop.devices.devicefile import remove_device
    from hwloop.devices.health import forget_health
    from hwloop.devices.inventory import Inventory

    found = Inventory.find(file=inventory)
    device = found.get(name)
    path = found.file_of(name)
    if path is None:
        raise UserError(f"{LOCAL} is this machine; it cannot be removed")
    remove_device(path, name)
    forget_health(device)
    typer.echo(f"removed {name} from {path}")


def _file_to_write(project: bool | None, inventory: Path | None) -> Path:
    from hwloop.devices.inventory import FILE_NAME, project_inventory, user_inventory

    if inventory is not None:
        if project is not None:
            raise UserError("--inventory names the file already; leave --project or --user away")
        return inventory
    near = project_inventory(Path.cwd())
    if project is None:
        return near if near is not None else user_inventory()
    return (near or Path.cwd() / FILE_NAME) if project else user_inventory()
