"""Proving to a server who we are: named key files, the ssh-agent, other key files, and at last the person."""

from __future__ import annotations

import base64
import binascii
import getpass
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    AuthenticationException,
    BadAuthenticationType,
    PartialAuthentication,
    PasswordRequiredException,
    SSHException,
)

from hwloop.devices.ssh.route import Place
from hwloop.errors import AccessError

#: Asks the person for a secret; None where nobody can be asked.
Ask = Callable[[str], str | None]
PASSWORD_TRIES = 3
PASSPHRASE_TRIES = 3
# Servers hang up after six keys (MaxAuthTries); the last try is kept for the password.
MAX_KEYS = 5


def ask_on_terminal(question: str) -> str | None:
    """Ask without echo when a person sits at this process; else None."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return getpass.getpass(question)


class Secrets:
    """What the person has typed, kept in this process alone, so that a lost connection comes back by itself.

    Args:
        ask: asks the person.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, str] = {}

    def for_one_connection(self) -> Ask:
        """Return an `Ask` that answers each question once from memory, since a wrong answer stays wrong."""
        fresh = dict(self._known)

        def answer(question: str) -> str | None:
            if question in fresh:
                return fresh.pop(question)
            said = self._ask(question)
            if said:
                self._known[question] = said
            return said

        return answer


#: The person at this process's terminal, for all transports of the process.
TERMINAL = Secrets(ask_on_terminal)


class Login:
    """One login: tries each way once and remembers what it tried, for the message when none works."""

    def __init__(self, transport: paramiko.Transport, place: Place, ask: Ask, agent: paramiko.Agent | None) -> None:
        self._transport = transport
        self._place = place
        self._ask = ask
        self._agent = agent
        self._tried: list[str] = []

    def run(self) -> None:
        """Log in.

        Raises:
            AccessError: no way works; the text lists what was tried.
            SSHException: the connection broke.
        """
        for name, key in self._keys():
            if self._offer(name, key):
                return
        if self._ask_for_password():
            return
        where = f"{self._place.user}@{self._place.address}"
        tried = "; tried " + ", ".join(self._tried) if self._tried else "; there was no key to try"
        raise AccessError(
            f"{where} lets us in with none of our keys{tried}; put a public key into its ~/.ssh/authorized_keys"
            " (`ssh-copy-id`), load the key into ssh-agent, or name it with --identity"
        )

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        """The keys to offer, at most as many as servers accept: named files, the agent's, other files."""
        held = list(self._agent.get_keys()) if self._agent is not None else []
        named = self._place.identities[:1] if self._place.named else ()
        offered: set[bytes] = set()
        for name, key in self._ordered(named, held):
            if bytes(key) in offered:
                continue
            offered.add(bytes(key))
            yield name, key
            if len(offered) == MAX_KEYS:
                self._tried.append("no more: servers hang up after six")
                return

    def _ordered(self, named: Sequence[Path], held: Sequence[paramiko.AgentKey]) -> Iterator[tuple[str, paramiko.PKey]]:
        wanted = {blob for path in self._place.identities if (blob := _public_part(path))}
        for path in named:
            yield from self._from_file(path, held)
        # A key that the agent holds unlocked spares the question for its file's passphrase.
        for key in sorted(held, key=lambda key: bytes(key) not in wanted):
            if bytes(key) in wanted or not self._place.only:
                yield f"{key.comment or key.get_name()} of the ssh-agent", key
        for path in self._place.identities[len(named) :]:
            if path.exists() and path.suffix != ".pub":
                yield from self._from_file(path, held)

    def _from_file(self, path: Path, held: Sequence[paramiko.AgentKey]) -> Iterator[tuple[str, paramiko.PKey]]:
        public = _public_part(path)
        for key in held:
            if bytes(key) == public:
                yield f"{path} through the ssh-agent", key
                return
        loaded = self._load(path)
        if loaded is not None:
            yield str(path), loaded

    def _load(self, path: Path) -> paramiko.PKey | None:
        secret: str | None = None
        for attempt in range(PASSPHRASE_TRIES + 1):
            try:
                password = None if secret is None else secret.encode()
                return paramiko.PKey.from_path(path, password)  # type: ignore[arg-type]  # it wants bytes, whatever it says
            except (PasswordRequiredException, TypeError):  # cryptography's TypeError: no password was given
                pass
            except FileNotFoundError:
                raise AccessError(f"there is no key file {path}") from None
            except (OSError, ValueError, SSHException, UnknownKeyType) as error:
                if secret is None:
                    self._tried.append(f"{path} (cannot be read: {str(error)[:100]})")
                    return None
            secret = self._ask(f"passphrase of {path}: ") if attempt < PASSPHRASE_TRIES else None
            if not secret:
                break
        self._tried.append(f"{path} (it has a passphrase: load it into ssh-agent)")
        return None

    def _offer(self, name: str, key: paramiko.PKey) -> bool:
        try:
            further = self._transport.auth_publickey(self._place.user, key)
        except PartialAuthentication as partial:
            further = list(partial.allowed_types)
        except BadAuthenticationType as error:
            raise AccessError(
                f"{self._place.user}@{self._place.address} accepts no keys, only {', '.join(error.allowed_types)}"
            ) from None
        except AuthenticationException as error:
            if not self._transport.is_active() or "timeout" in str(error).lower():
                raise SSHException(f"the login broke off: {error}") from error
            self._tried.append(name)
            return False
        if further:
            self._tried.append(f"{name} (accepted, but the server wants {' and '.join(further)} too)")
            return False
        return True

    def _ask_for_password(self) -> bool:
        try:
            self._transport.auth_none(self._place.user)
        except BadAuthenticationType as error:
            offered = set(error.allowed_types)
        except AuthenticationException:
            return False
        else:
            return True
        if not offered & {"password", "keyboard-interactive"}:
            return False
        for _ in range(PASSWORD_TRIES):
            password = self._ask(f"password of {self._place.user}@{self._place.address}: ")
            if not password:
                return False
            try:
                return not self._transport.auth_password(self._place.user, password)
            except AuthenticationException:
                if not self._transport.is_active():
                    break
                self._tried.append("a password")
        return False


def _public_part(path: Path) -> bytes | None:
    """The public key beside a key file, as the wire carries it; None where there is none."""
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        return base64.b64decode(public.read_text("ascii", "replace").split()[1], validate=True)
    except (OSError, IndexError, binascii.Error):
        return None
