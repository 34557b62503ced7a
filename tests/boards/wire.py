"""A wire between hwloop and a board that can go dead without telling anybody, or be cut so that both ends hear it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

CHUNK = 1 << 16
RESET = b"r"
# Lingering for no time at all: closing throws away what is not sent yet and sends a reset.
ABORTIVE = struct.pack("ii", 1, 0)


class Wire:
    """Carries TCP connections on a port of its own to another port of this machine, until `freeze`.

    While frozen nothing is carried, nothing is closed, and new connections are taken but never answered. `reset`
    sends a reset to both ends of every connection; new ones are carried again.
    """

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._frozen = threading.Event()
        self._was_reset = threading.Event()
        self._reset_count = 0
        self._wake, self._woken = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Carry nothing more."""
        self._frozen.set()

    def reset(self) -> int:
        """Reset all connections; return how many there were."""
        self._was_reset.clear()
        self._wake.send(RESET)
        self._was_reset.wait()
        return self._reset_count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for one in (self._listener, self._wake, self._woken, *self._peers):
            one.close()

    def _carry(self) -> None:
        with self._selector:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in self._selector.select()]
                if self._woken in ready:
                    if not self._woken.recv(1):
                        return
                    self._reset_all()
                    continue
                for source in ready:
                    assert isinstance(source, socket.socket)
                    if source is self._listener:
                        self._connect()
                    elif self._frozen.is_set() or not self._pass_on(source, self._peers[source]):
                        self._selector.unregister(source)

    def _connect(self) -> None:
        near = self._listener.accept()[0]
        try:
            far = socket.create_connection(self._target)
        except OSError:  # nobody listens there at present: neither does anybody here
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
            near.close()
            return
        self._peers.update({near: far, far: near})
        for end in (near, far):
            self._selector.register(end, selectors.EVENT_READ)

    def _reset_all(self) -> None:
        self._reset_count = len(self._selector.get_map()) // 2 - 1  # less the listener and the wake-up; two ends each
        for end in self._peers:
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
            end.close()
        self._peers.clear()
        self._was_reset.set()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            data = source.recv(CHUNK)
            if data:
                sink.sendall(data)
                return True
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        return False
