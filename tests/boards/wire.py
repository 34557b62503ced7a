"""A wire between hwloop and a board that can go dead without telling anybody, as a pulled cable does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Wire:
    """Carries TCP connections on a port of its own to another port of this machine, until `freeze`.

    While frozen nothing is carried, nothing is closed, and new connections are taken but never answered.
    """

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._frozen = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._sockets: list[socket.socket] = [self._listener, self._wake, self._woken]
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Carry nothing more."""
        self._frozen.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for one in self._sockets:
            one.close()

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            peers: dict[socket.socket, socket.socket] = {}
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if source is self._woken:
                        return
                    if source is self._listener:
                        near = source.accept()[0]
                        far = socket.create_connection(self._target)
                        self._sockets += [near, far]
                        peers.update({near: far, far: near})
                        for end in (near, far):
                            selector.register(end, selectors.EVENT_READ)
                    elif self._frozen.is_set() or not self._pass_on(source, peers[source]):
                        selector.unregister(source)

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
