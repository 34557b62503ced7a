"""Carrying out a campaign's trials: each once, whatever happens to sessions, agents and boards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self
from zlib import crc32

from hwloop.devices.health import doubt_of_canary
from hwloop.devices.hello import Hello, InFlight
from hwloop.errors import AgentMismatchError, DeviceBusyError, DeviceError
from hwloop.measurement import anchor
from hwloop.measurement.evidence import LOST, guilty_subjects, in_words, quarantine_record, reason_of_loss, subject_of
from hwloop.measurement.measurement import USABLE
from hwloop.measurement.recovery import Backoff
from hwloop.measurement.store import EVENT, TrialStore
from hwloop.measurement.trial import Trial
from hwloop.progress import Progress, Step

Json = dict[str, Any]


class Session(Protocol):
    """What a campaign needs of an agent session; `hwloop.devices.AgentSession` is one."""

    @property
    def hello(self) -> Hello:
        """What the agent said about itself."""

    @property
    def in_flight(self) -> InFlight | None:
        """The trial that the agent has begun and whose record is not here; also after the session was lost."""

    @property
    def last_seq(self) -> int:
        """The highest number of a record that this session has seen in the device's journal."""

    def put_artifact(self, data: bytes, sha256: str, suffix: str) -> None:
        """Make the artifact available on the device; nothing happens when it is there already."""

    def run_trial(self, trial_id: str, spec: Json) -> Json:
        """Run one trial and return its record."""

    def canary(self) -> Json:
        """Return what the canary measures now."""

    def finished(self) -> list[Json]:
        """Records of the trials that the device's own journal of this session holds."""

    def acknowledge(self, seq: int) -> None:
        """Tell the device that the records up to `seq` are safe here."""

    def close(self) -> None:
        """End the session."""


OpenSession = Callable[[], Session]


@dataclass(frozen=True)
class Turn:
    """One trial of a campaign, and the key of the subject that it is of."""

    key: str
    trial: Trial


@dataclass
class Execution:
    """Runs trials in order through as many sessions as it takes.

    Attributes:
        store: finished trials and events.
        open_session: opens a session with the agent.
        progress: told about trials, losses and reboots.
        sleep: waits between tries to reconnect.
        rng: scatters these waits.
        turns: the campaign's trials, first attempts.
        anchors: the trials that may be the anchor, the best first; empty for none.
        anchor_every: so many trials lie between two anchors.
    """

    store: TrialStore
    open_session: OpenSession
    progress: Progress
    sleep: Callable[[float], None]
    rng: random.Random
    turns: Sequence[Turn]
    anchors: Sequence[Turn]
    anchor_every: int
    _owners: dict[str, str] = field(init=False, default_factory=dict)
    _digests: set[str] = field(init=False, default_factory=set)
    _salt: int = field(init=False, default=0)
    _flight: InFlight | None = field(init=False, default=None)
    _boot_id: str | None = field(init=False, default=None)
    _is_new_span: bool = field(init=False, default=True)
    _open: Session | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Learn whose trials are whose."""
        for turn in self.turns:
            spec = turn.trial.spec
            digest = turn.trial.id.partition(":")[0]
            self._owners[digest] = subject_of(spec)
            self._digests.add(digest)
        self._salt = anchor.salt_of(self._digests)

    def all(self, turns: Sequence[Turn], description: str) -> None:
        """Run the trials that are not in the store.

        Raises:
            DeviceError: the device could not be reached any more; what was measured is in the store.
        """
        pending = {turn.trial.id: turn for turn in turns}  # two subjects can be the same trial
        total = len(pending)
        pending = {trial_id: turn for trial_id, turn in pending.items() if trial_id not in self.store}
        backoff = Backoff(self.rng, self.sleep)
        with self.progress.step(description, total=total, done=total - len(pending)) as step:
            while pending:
                before = len(self.store)
                try:
                    self._through_one_session(pending, step)
                except (DeviceBusyError, AgentMismatchError):
                    raise
                except DeviceError as error:
                    if len(self.store) > before:
                        backoff.progressed()
                    pause_s = backoff.next_pause_s()
                    if pause_s is None:
                        raise DeviceError(
                            f"{error} ({total - len(pending)} of {total} trials are measured and kept;"
                            " run the same command again to go on)"
                        ) from error
                    self._wait(error, pause_s)

    def peek(self) -> Hello:
        """Return what the agent says about itself; the session stays open for the first trials.

        Raises:
            DeviceError: the device cannot be reached.
        """
        backoff = Backoff(self.rng, self.sleep)
        while self._open is None:
            try:
                self._open = self.open_session()
            except (DeviceBusyError, AgentMismatchError):
                raise
            except DeviceError as error:
                pause_s = backoff.next_pause_s()
                if pause_s is None:
                    text = f"{error} (what is measured is kept; run the same command again to go on)"
                    raise DeviceError(text) from error
                self._wait(error, pause_s)
        return self._open.hello

    def _wait(self, error: DeviceError, pause_s: float) -> None:
        self.progress.say(f"lost the agent ({error}); trying again in {pause_s:.0f} s")
        self.sleep(pause_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._open = self._open, None
        if session is not None:
            session.close()

    def _through_one_session(self, pending: dict[str, Turn], step: Step) -> None:
        """Take finished trials out of `pending` until it is empty or the session breaks."""
        session, self._open = self._open or self.open_session(), None
        try:
            self._arrive(session, pending, step)
            while pending:
                self._drop_anchor(session)
                trial_id, turn = next(iter(pending.items()))
                self._measure(session, turn.trial)
                del pending[trial_id]
                step.advance(1, turn.key)
            self._drop_anchor(session, is_last=True)
            session.acknowledge(session.last_seq)
        finally:
            self._flight = session.in_flight
            session.close()

    def _measure(self, session: Session, trial: Trial) -> None:
        artifact = trial.artifact
        session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
        self.store.add(session.run_trial(trial.id, trial.spec))

    def _arrive(self, session: Session, pending: dict[str, Turn], step: Step) -> None:
        """Fetch what was measured without us, find out what was lost and why, look at a board that rebooted."""
        fetched = session.finished()
        for record in fetched:
            trial_id = record["trial_id"]
            if trial_id in pending:
                self.store.add(record)
                del pending[trial_id]
                step.advance(1, "measured before, fetched now")
            elif anchor.position_of(record, self._salt) is not None:
                self.store.add(record)
        hello, flight, known_boot = session.hello, self._flight, self._boot_id
        self._flight, self._boot_id = None, hello.boot_id or known_boot
        has_record = {record["trial_id"] for record in fetched}
        for one, is_marked in ((flight, False), (hello.interrupted, True)):
            if one is None or one.trial_id in has_record or one.trial_id in self.store:
                continue
            same = flight is not None and (one.trial_id, one.pid) == (flight.trial_id, flight.pid)
            self._note_loss(replace(one, phase=flight.phase) if same and flight else one, hello.boot_id, is_marked)
            if one.trial_id in pending:  # the last to be tried again: by then most is known about the others
                pending[one.trial_id] = pending.pop(one.trial_id)
        if known_boot is not None and hello.boot_id not in (None, known_boot):
            self._is_new_span = True
            self._look_at_rebooted(session, known_boot)
        self._quarantine(pending, step)

    def _note_loss(self, flight: InFlight, boot_now: str | None, is_marked: bool) -> None:
        reason = reason_of_loss(flight, boot_now, is_marked=is_marked)
        if reason is None:
            return
        loss = {"trial_id": flight.trial_id, "boot_before": flight.boot_id, "pid": flight.pid}
        if any(event[EVENT] == LOST and loss.items() <= event.items() for event in self.store.events):
            return  # the same loss, seen from the other side or by an earlier run
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.store.note(LOST, **loss, reason=reason, boot_now=boot_now, phase=flight.phase, at=at)
        self.progress.say(f"trial {flight.trial_id[:12]} was lost: {in_words(self.store.entries[-1])}")

    def _look_at_rebooted(self, session: Session, known_boot: str) -> None:
        """A short health check before anything is measured: after a reboot the board may be another one."""
        canary = session.canary()
        doubt = doubt_of_canary(canary)
        self.progress.say(
            f"the board has rebooted (boot {known_boot[:8]}, now {str(session.hello.boot_id)[:8]}); health check:"
            f" canary {canary['median_ns'] / 1e6:.3f} ms, {doubt or 'steady'}"
        )

    def _quarantine(self, pending: dict[str, Turn], step: Step) -> None:
        """Set aside the subjects that kill their board: their trials end here, the campaign goes on."""
        guilty = guilty_subjects(self.store.entries, self._owners, len(self._owners))
        for trial_id, turn in list(pending.items()):
            subject = self._owners[trial_id.partition(":")[0]]
            if subject in guilty:
                self.store.add(quarantine_record(trial_id, turn.trial.spec, guilty[subject]))
                del pending[trial_id]
                step.advance(1, f"{turn.key} is quarantined")
                self.progress.say(f"{turn.key} is quarantined after {len(guilty[subject])} losses; going on without it")

    def _drop_anchor(self, session: Session, *, is_last: bool = False) -> None:
        """Measure the anchor if it is due: every `anchor_every` trials, in a new run, after a reboot, at the end."""
        turn = self._anchor()
        if turn is None:
            return
        since = anchor.trials_since_anchor(self.store.entries, self._salt, self._own_ids())
        is_due = since is None or since >= self.anchor_every or (since > 0 and (is_last or self._is_new_span))
        if not is_due:
            return
        self._is_new_span = False
        position = self._next_position()
        self._measure_anchor(session, turn, position, 0)
        points = anchor.points_of(self._anchor_entries(turn), self._salt)
        if anchor.wants_second_process(points, position):
            self._measure_anchor(session, turn, position, 1)

    def _measure_anchor(self, session: Session, turn: Turn, position: int, process: int) -> None:
        trial = replace(turn.trial, replicate=anchor.replicate_of(self._salt, position, process))
        self._owners[trial.id.partition(":")[0]] = subject_of(trial.spec)
        self._measure(session, trial)

    def _anchor(self) -> Turn | None:
        """The first of the candidates that has not failed as an anchor yet."""
        failed = {
            subject_of(entry["spec"])
            for entry in self.store.entries
            if anchor.position_of(entry, self._salt) is not None and entry["status"] not in USABLE
        }
        return next((turn for turn in self.anchors if subject_of(turn.trial.spec) not in failed), None)

    def _anchor_entries(self, turn: Turn) -> list[Json]:
        """The journal without the anchors that were of another subject."""
        subject = subject_of(turn.trial.spec)
        return [
            entry
            for entry in self.store.entries
            if anchor.position_of(entry, self._salt) is None or subject_of(entry["spec"]) == subject
        ]

    def _next_position(self) -> int:
        taken = [anchor.position_of(entry, self._salt) for entry in self.store.entries]
        return max((position for position in taken if position is not None), default=-1) + 1

    def _own_ids(self) -> set[str]:
        return {
            entry["trial_id"]
            for entry in self.store.entries
            if EVENT not in entry and entry["trial_id"].partition(":")[0] in self._digests
        }

    def judge_drift(self, trial_ids: Sequence[str]) -> None:
        """Decide, once, which of these trials lay in drifting spans, and note it.

        Args:
            trial_ids: one attempt of each trial; those that are not in the store are passed over.
        """
        turn = self._anchor()
        measured = sorted(trial_id for trial_id in trial_ids if trial_id in self.store)
        if turn is None or not measured:
            return
        known = {"campaign": self._salt, "judged": crc32("".join(measured).encode())}
        if any(event[EVENT] == anchor.DRIFT and known.items() <= event.items() for event in self.store.events):
            return
        found = anchor.drifting_trials(self._anchor_entries(turn), self._salt, set(measured))
        self.store.note(anchor.DRIFT, **known, anchor=turn.key, trials=found)
        if found:
            worst = max(found.values(), key=abs)
            self.progress.say(
                f"{len(found)} trials lay in spans that drifted (the anchor was off by {100 * worst:+.1f} %)"
            )
