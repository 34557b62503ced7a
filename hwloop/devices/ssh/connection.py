"""One SSH connection to a device, through its jump hosts: opened, checked, cut when it hangs, closed without a trace.

This is the only module that makes paramiko transports, and every host key passes `Pins.check` here before anything
is sent that a stranger should not have. paramiko's clients with their policies are not used anywhere.

paramiko waits in several places without a deadline. So each call into it runs under `Connection.within`, which cuts
the TCP connection when the time is up: then every wait inside paramiko ends.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import paramiko
from paramiko.ssh_exception import SSHException

from hwloop.devices.ssh.hostkey import HostKey, Pins
from hwloop.devices.ssh.login import Ask, Login
from hwloop.devices.ssh.route import Place
from hwloop.errors import DeviceError, HwloopError, TransportError
from hwloop_agent.protocol import clean_text

# What is said goes into our own exceptions; without a handler Python would print paramiko's tracebacks on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

JOIN_S = 5.0


@dataclass(frozen=True)
class Limits:
    """How long each step may take, in seconds.

    Attributes:
        banner_s: from the TCP connection to the server's first line, and for the exchange of keys.
        auth_s: for the server to answer one offered key. A person may take longer to type.
        login_s: for the whole login, questions included.
        request_s: for one small request: opening a channel, starting a program, a question to SFTP.
        dead_s: after this long without an acknowledgement of TCP the kernel gives the connection up.
    """

    banner_s: float = 15.0
    auth_s: float = 15.0
    login_s: float = 120.0
    request_s: float = 15.0
    dead_s: float = 30.0


class Connection:
    """A chain of SSH transports, each through the one before; the last one ends at the device."""

    def __init__(self, name: str, limits: Limits) -> None:
        """Use `Connection.open`."""
        self.name = name
        self.limits = limits
        self._socket: socket.socket | None = None
        self._transports: list[paramiko.Transport] = []
        self._why = ""

    @classmethod
    def open(cls, name: str, route: Sequence[Place], pins: Pins, ask: Ask, limits: Limits) -> Connection:
        """Connect, check every host key, and log in.

        Raises:
            AccessError: a host key is not the pinned one, or a server does not let us in; trying again is no use.
            TransportError: a server cannot be reached, or does not answer as an SSH server does.
        """
        connection = cls(name, limits)
        agent: paramiko.Agent | None = None
        try:
            with contextlib.suppress(SSHException, OSError):
                agent = paramiko.Agent()
            for index, place in enumerate(route):
                is_hop = index < len(route) - 1
                transport = connection._handshake(place, pins, is_hop)
                with connection.within(limits.login_s, f"the login at {place.address}"):
                    Login(transport, place, ask, agent).run()
        except BaseException:
            connection.close()
            raise
        finally:
            if agent is not None:
                agent.close()
        return connection

    @property
    def device(self) -> paramiko.Transport:
        """The transport that ends at the device."""
        return self._transports[-1]

    @property
    def alive(self) -> bool:
        """Whether, as far as one can tell without asking, the connection holds."""
        return all(transport.is_active() for transport in self._transports)

    def why_lost(self) -> str:
        """Return what ended the connection, in words."""
        for transport in self._transports:
            error = transport.get_exception()  # tells each error once
            if error is not None and not self._why:
                self._why = _in_words(error)
        return self._why or "the connection was closed at the other end"

    @contextlib.contextmanager
    def within(self, seconds: float, what: str) -> Iterator[None]:
        """Cut the connection if the calls into paramiko inside take longer; turn its errors into ours.

        Raises:
            TransportError: it was cut, or broke.
        """
        passed = threading.Event()

        def cut() -> None:
            passed.set()
            self._why = self._why or f"{what} took longer than {seconds:g} s"
            self.cut()

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except HwloopError:
            raise
        except (SSHException, OSError, EOFError) as error:
            if passed.is_set():
                raise TransportError(f"{self.name}: {what} took longer than {seconds:g} s") from error
            raise TransportError(f"{self.name}: {what} failed: {_in_words(error)}") from error
        finally:
            timer.cancel()
            timer.join()

    def _link_to(self, place: Place) -> socket.socket | paramiko.Channel:
        """Return what carries the next SSH transport: a TCP connection, or a channel through the last jump host."""
        if self._transports:
            with self.within(place.connect_s, f"reaching {place.address} through the jump host"):
                return self._transports[-1].open_channel(
                    "direct-tcpip", (place.host, place.port), ("127.0.0.1", 0), timeout=place.connect_s
                )
        try:
            self._socket = socket.create_connection((place.host, place.port), timeout=place.connect_s)
            _notice_death(self._socket, self.limits.dead_s)
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise TransportError(f"{self.name}: {place.address} cannot be reached: {reason}") from error
        return self._socket

    def _handshake(self, place: Place, pins: Pins, is_hop: bool) -> paramiko.Transport:
        """Begin SSH with a server and check its host key; it has not learned yet who we are."""
        link = self._link_to(place)
        transport = paramiko.Transport(link)
        self._transports.append(transport)
        transport.banner_timeout = transport.handshake_timeout = self.limits.banner_s
        transport.auth_timeout = self.limits.auth_s
        _prefer(transport, pins.wanted_kind(place.address, is_hop))
        with self.within(self.limits.banner_s, f"the SSH handshake with {place.address}"):
            transport.start_client()
            key = transport.get_remote_server_key()
        pins.check(self.name, place.address, is_hop, HostKey(key.get_name(), key.get_base64()))
        return transport

    def cut(self) -> None:
        """End the TCP connection at once; whoever waits inside paramiko gets an error."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close everything; twice does nothing. Leaves no thread and no descriptor, whatever state it was in."""
        with contextlib.suppress(DeviceError), self.within(self.limits.request_s, "closing"):
            for transport in reversed(self._transports):
                transport.close()
        self.cut()
        for transport in reversed(self._transports):
            if transport.ident is not None:
                transport.join(JOIN_S)
            # `Transport.close` leaves the socket of a transport open that had ended by itself.
            with contextlib.suppress(OSError, EOFError, SSHException):
                transport.sock.close()
        if self._socket is not None:
            self._socket.close()


def _in_words(error: BaseException) -> str:
    """What an error of paramiko says, fit for one line; of some it keeps no more than that the stream has ended."""
    return (
        clean_text(str(error), 300).replace("\n", " ") or "the connection was closed, or nothing came through any more"
    )


def _prefer(transport: paramiko.Transport, kind: str) -> None:
    """Ask the server for a kind of key first: it may have several."""
    options = transport.get_security_options()
    wanted = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    first = [name for name in options.key_types if name in wanted]
    options.key_types = tuple(first + [name for name in options.key_types if name not in first])


def _notice_death(connection: socket.socket, dead_s: float) -> None:
    """Let the kernel notice a peer that is gone, sending or idle.

    TCP's own keepalives, not paramiko's: those wake the device's sshd in the middle of what is being timed.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_USER_TIMEOUT", int(1000 * dead_s)),
        ("TCP_KEEPIDLE", max(int(dead_s / 2), 1)),
        ("TCP_KEEPINTVL", max(int(dead_s / 6), 1)),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
