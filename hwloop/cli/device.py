"""`hwloop device`: the devices that can be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hwloop.errors import UserError

if TYPE_CHECKING:
    from hwloop.devices import Device
    from hwloop.devices.health import HealthReport
    from hwloop.devices.ssh.hostkey import UnknownHostKeyError

app = typer.Typer(help="The devices that can be measured.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The device's name.")]
File = Annotated[
    Path | None, typer.Option("--inventory", help="This devices.toml, instead of the project's and the user's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]

COLOURS = {"good": "green", "degraded": "yellow", "bad": "red", "unknown": "dim"}


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="device")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    url: Annotated[str, typer.Argument(help="ssh://user@host[:port]; host may be an alias of ~/.ssh/config.")],
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
    """Add a device: checks its host key with you, logs in, and writes it down."""
    from hwloop.devices import Device, SshAccess
    from hwloop.devices.devicefile import add_device, check_name
    from hwloop.devices.introduction import introduce
    from hwloop.devices.ssh.hostkey import FINGERPRINT
    from hwloop.devices.ssh.route import Address

    path = _file_to_write(project, inventory)
    check_name(path, name)
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

    table = Table(box=box.SIMPLE_HEAD, title=escape(name), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in told.items():
        if key == "runtimes":
            for runtime, probe in value.items():
                text = " ".join(str(probe[part]) for part in ("version", "import", "reason") if probe.get(part))
                table.add_row(escape(f"runtime {runtime}"), escape(text))
        elif value not in (None, "", [], {}):
            text = f"{len(value)}" if key == "cpus" else value if isinstance(value, str) else json.dumps(value)
            table.add_row(escape(key.replace("_", " ")), escape(text))
    Console().print(table)


@app.command("check")
def check(name: Name, as_json: AsJson = False, inventory: File = None) -> None:
    """Check whether a device's numbers can be trusted; the verdict is kept. Exit code 1: it is bad."""
    from rich.markup import escape

    from hwloop.devices.health import BAD, check_device, save_health
    from hwloop.devices.inventory import Inventory

    device = Inventory.find(file=inventory).get(name)
    report = check_device(device, on_wait=lambda text: typer.echo(text, err=True))
    save_health(device, report)
    if as_json:
        content = {"health": report.health, "reasons": list(report.reasons), "checked_at": report.checked_at}
        typer.echo(json.dumps({"name": name, **content, "figures": dict(report.figures)}, indent=1))
    else:
        console = Console()
        console.print(f"{escape(name)}: [{COLOURS[report.health]}]{report.health}[/]", highlight=False)
        for reason in report.reasons:
            console.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)
        for line in _figures(report):
            console.print(f"  [dim]{escape(line)}[/]", highlight=False, soft_wrap=True)
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
