"""`hwloop agent deploy|status|remove`: the agent and the runtimes on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from hwloop.devices.device import Device
    from hwloop.devices.provisioning import Deployment

app = typer.Typer(help="Bring the agent and the runtimes to a device.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The device's name: `hwloop device list`.")]
File = Annotated[
    Path | None, typer.Option("--inventory", help="This devices.toml, instead of the project's and the user's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]


def register(parent: typer.Typer) -> None:
    """Add the commands of this group."""
    parent.add_typer(app, name="agent")


@app.command("deploy")
def deploy(
    name: Name,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="onnxruntime, litert, torch or tvm, also NAME==VERSION; may be repeated."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look for newer versions than those downloaded.")] = False,
    as_json: AsJson = False,
    inventory: File = None,
) -> None:
    """Install agent and runtimes on a device: offline there, without root, in one directory.

    Doing it again installs nothing that is there. Without --runtime: what the last deployment installed, at first
    onnxruntime.
    """
    # Imported here: the command line must answer at once.
    from hwloop.cli.display import Display
    from hwloop.devices.devicefile import set_worker_python
    from hwloop.devices.inventory import Inventory
    from hwloop.devices.provisioning import deploy as deploy_to
    from hwloop.progress import Silent

    console = Console()
    known = Inventory.find(file=inventory)
    device = _remote(known.get(name))
    progress = Silent() if as_json else Display(console)
    done = deploy_to(device.open_transport(), runtime or [], progress, root=device.root, refresh=refresh)
    path = known.file_of(name)
    if path is not None and done.worker_python != device.worker_python:
        set_worker_python(path, name, done.worker_python)
    _show(done, name, console, as_json)


@app.command("status")
def status(name: Name, as_json: AsJson = False, inventory: File = None) -> None:
    """Tell what is deployed on a device and try it there."""
    from hwloop.cli.display import Display
    from hwloop.devices.inventory import Inventory
    from hwloop.devices.provisioning import status as status_of
    from hwloop.progress import Silent

    console = Console()
    device = _remote(Inventory.find(file=inventory).get(name))
    progress = Silent() if as_json else Display(console)
    _show(status_of(device.open_transport(), progress, root=device.root), name, console, as_json)


@app.command("remove")
def remove(name: Name, inventory: File = None) -> None:
    """Remove agent, runtimes and sessions from a device, without a trace; the inventory keeps the device."""
    from hwloop.devices.devicefile import set_worker_python
    from hwloop.devices.inventory import Inventory
    from hwloop.devices.provisioning import remove as remove_from

    known = Inventory.find(file=inventory)
    device = _remote(known.get(name))
    remove_from(device.open_transport(), root=device.root)
    path = known.file_of(name)
    if path is not None:
        set_worker_python(path, name, None)
    typer.echo(f"{name}: nothing of hwloop is left there")


def _remote(device: Device) -> Device:
    from hwloop.errors import UserError

    if device.transport == "local":
        raise UserError(f"{device.name} is this machine and uses this environment: pip install the runtimes here")
    return device


def _show(done: Deployment, name: str, console: Console, as_json: bool) -> None:
    """Print how the device stands; ends with exit code 1 when a runtime that was asked for does not work there."""
    emulated = bool(done.facts.get("emulated"))
    if as_json:
        runtimes = {
            runtime: {"version": done.version(runtime), "outcome": text} for runtime, text in done.runtimes.items()
        }
        data = {
            "device": name,
            "changed": done.changed,
            "worker_python": done.worker_python,
            "runtimes": runtimes,
            "packages": dict(done.installed.packages) if done.installed is not None else {},
            "emulated": emulated,
        }
        typer.echo(json.dumps(data, indent=1))
    else:
        did = "deployed" if done.changed else "unchanged" if done.installed is not None else "nothing deployed yet"
        console.print(f"{name}: {did}", highlight=False)
        for runtime, text in done.runtimes.items():
            mark = "[green]works[/]" if text == "ok" else f"[red]{escape(text)}[/]"
            console.print(f"  {runtime} {escape(done.version(runtime))}: {mark}", highlight=False, soft_wrap=True)
        if emulated:
            note = escape(str(done.facts.get("emulation")))
            console.print(f"  [yellow]emulated[/] ({note}): its times mean nothing", highlight=False, soft_wrap=True)
    if done.broken:
        raise typer.Exit(1)
