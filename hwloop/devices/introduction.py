"""Meeting a device for the first time: a person, or a fingerprint that a person gave, vouches for its host key."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from hwloop.devices.device import Device, SshAccess
from hwloop.devices.ssh.hostkey import UnknownHostKeyError
from hwloop.errors import AccessError, TransportError

# The device, and the jump hosts before it.
MAX_KEYS = 9
# What servers have besides the ed25519 key that they show when nobody asks for another one.
OTHER_KINDS = ("ecdsa-sha2-nistp256", "ssh-rsa")

Vouch = Callable[[UnknownHostKeyError], bool]


def introduce(device: Device, vouch: Vouch, *, fingerprints: Collection[str] = ()) -> Device:
    """Connect to a device whose keys are not pinned yet, log in, and look for its Python.

    Args:
        device: as the user describes it; its `ssh` may lack keys.
        vouch: says whether a key is the right one; asked for each server on the way, the device last.
        fingerprints: if there are any, they vouch, and `vouch` is not asked.

    Returns:
        The device with the keys of all servers on the way.

    Raises:
        AccessError: nobody vouches for a key, or the device does not let us in.
        TransportError: the device cannot be reached, or has no such Python.
    """
    for _ in range(MAX_KEYS):
        transport = device.open_transport()
        try:
            transport.start([device.python, "-V"]).close(5, kill=True)
        except UnknownHostKeyError as unknown:
            device = _pin(device, unknown, vouch, fingerprints)
        except TransportError as error:
            raise TransportError(f"{error}; device {device.name} was not added") from error
        else:
            return device
        finally:
            transport.close()
    raise AccessError(f"device {device.name}: more than {MAX_KEYS} servers on the way")


def _pin(device: Device, unknown: UnknownHostKeyError, vouch: Vouch, fingerprints: Collection[str]) -> Device:
    access = device.ssh
    if access is None:
        raise ValueError(f"device {device.name} is not reached by SSH")
    if fingerprints and unknown.key.fingerprint not in fingerprints:
        tried = OTHER_KINDS.index(access.key_kind) + 1 if access.key_kind else 0
        if tried == len(OTHER_KINDS):
            what = f"jump host {unknown.address} of device" if unknown.is_hop else "device"
            raise AccessError(
                f"{what} {device.name}: it shows {unknown.key.type} {unknown.key.fingerprint}, not"
                f" {' or '.join(sorted(fingerprints))}; it was not added"
            )
        return replace(device, ssh=replace(access, key_kind=OTHER_KINDS[tried]))
    if not fingerprints and not vouch(unknown):
        raise AccessError(f"device {device.name} was not added: its host key was not accepted")
    return replace(device, ssh=_with_key(access, unknown))


def _with_key(access: SshAccess, unknown: UnknownHostKeyError) -> SshAccess:
    if unknown.is_hop:
        return replace(access, jump_keys={**access.jump_keys, unknown.address: unknown.key}, key_kind="")
    return replace(access, host_key=unknown.key, key_kind="")
