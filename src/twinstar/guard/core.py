"""What a guard decides: pure, on the time it is given, so that tests and the simulator can run it on any clock.

**What it guarantees.**

* The word `DEAD` is said only after the database's main process has ended without having been announced, or was ended
  by the guard, *and* two looks in a row have found no process of it. It stays until another run is told or seen; it
  carries the epoch and the role of the run that died. So whoever hears an authentic `DEAD` may begin a candidacy at
  once (`docs/protocol.md`, "How leadership ends").
* *Lease* (`async`): a database that leads is ended when its lease is over, whatever has become of the agent.
* *Epoch* (`quorum`): a database that leads for an epoch is ended when another member has spoken of a higher one and the
  agent has not acted on it for `guard_grace_ms`. Never because the agent is gone: there the seal is the fence.
* A database that its dead or hung agent had begun to stop, or that does not even answer a connection while the agent is
  silent, is ended and declared dead, so that the others need not wait for ever.

**What it does not.** The test of a silent agent's database is one byte on a fresh connection: it finds a main process
that is stopped or spinning, not a query that never returns. A machine that is suspended runs no guard either.

**A stall of the guard itself.** Whoever drives it delivers everything that has arrived *before* a `Tick`; only a
`Tick` fences. After a gap of `stall_ms` the waits that give others time to act begin anew. A lease does not: it is over
when it is over.

All times are milliseconds on the machine's boot clock, which is the clock of `Told.lease_until_ms` as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twinstar.guard.settings import GuardSettings
from twinstar.model.wire import EngineWord, Envelope, EpochNotice, Heartbeat, Part, Told

_NEVER_AGE_MS = 1e9
_WIDELY_EVERY = 5
"""Peers' guards and the own agent get every fifth heartbeat: enough to learn of epochs, and that the guard is there;
each one that is not sent is a wake-up less in another process."""
_DEAD_REPEATS = 5
_DEAD_EVERY_MS = 10.0
_SWEEP_FIRST_MS = 1.0
_SWEEP_MOST_MS = 50.0
_EMPTY_SWEEPS = 2
"""One look can miss a process that is forked behind its back; nobody is left to fork before the second."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a guard remembers across its own restart."""

    run: str = ""
    epoch: int = 0
    leading: bool = False
    lease_until_ms: float = 0.0


# -- what happens to it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, and everything that arrived before was delivered."""


@dataclass(frozen=True, slots=True)
class Received:
    """An authentic datagram."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Seen:
    """A living main process was found through the pid file."""

    run: str


@dataclass(frozen=True, slots=True)
class Ended:
    """This run of the main process is over (a zombie is)."""

    run: str


@dataclass(frozen=True, slots=True)
class Swept:
    """The answer to `Sweep`: how many processes it found, and one it may not end (0: none)."""

    found: int
    refused_pid: int = 0


@dataclass(frozen=True, slots=True)
class Knocked:
    """The answer to `Knock`."""

    answered: bool


Event = Tick | Received | Seen | Ended | Swept | Knocked

# -- what it wants done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """To every peer's agent; `widely`: to its own agent and to the peers' guards as well."""

    heartbeat: Heartbeat
    widely: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Read the pid file; answer with `Seen` if it names a living process of the data directory."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Report `Ended` as soon as this run ends, at once if it has."""

    run: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Find every process of the database, `kill` them all, answer with `Swept`.

    If the pid file names another living run by now, touch nothing and answer with `Seen`.
    """

    run: str
    kill: bool


@dataclass(frozen=True, slots=True)
class Knock:
    """See whether the database answers on a fresh connection within `hung_query_ms`; answer with `Knocked`."""


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep this for the next start. Need not survive the machine: neither does the database's run."""

    record: Record


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the log."""

    sentence: str


Effect = Send | Look | Watch | Sweep | Knock | Remember | Note


class GuardCore:
    """The state machine. `step` takes one event and returns what is to be done, in order."""

    def __init__(self, settings: GuardSettings, now_ms: float, record: Record | None = None) -> None:
        self._settings = settings
        self._recalled = record or Record()
        self._remembered = self._recalled
        self._now_ms = self._fresh_ms = now_ms
        self._out: list[Effect] = []
        # the database
        self._word = EngineWord.UNKNOWN
        self._run = ""
        self._epoch, self._leading, self._lease_until_ms = self._recalled.epoch, False, 0.0
        # the agent and the others; `_fresh_ms` is when this guard began to run without a stall
        self._told_ms = self._acted_ms = self._learned_ms = -math.inf
        self._stopping = self._paused = False
        self._learned_epoch = 0
        # beats, sweeps and tests
        self._beat_ms = now_ms
        self._beats = self._repeats = 0
        self._urgent = False
        self._sweep_ms = math.inf
        self._sweep_pause_ms = _SWEEP_FIRST_MS
        self._empty_sweeps = 0
        self._refused_pid = 0
        self._test_ms = now_ms + settings.agent_silent_ms
        self._strikes = 0

    @property
    def word(self) -> EngineWord:
        return self._word

    def step(self, event: Event, now_ms: float) -> list[Effect]:
        """What to do about `event`. Answers to effects come as events after all effects of this step were done."""
        self._out = []
        self._discount_stall(now_ms)
        self._now_ms = now_ms
        match event:
            case Tick():
                self._tick()
            case Received(envelope):
                self._receive(envelope)
            case Seen(run) if run != self._run:
                self._adopt(run)
            case Ended(run) if run == self._run:
                self._ended()
            case Swept(found, refused_pid) if self._word is EngineWord.KILLING:
                self._swept(found, refused_pid)
            case Knocked(answered) if self._word is EngineWord.RUNNING:
                self._tested(answered)
        if self._urgent:
            self._beat()
        self._remember()
        return self._out

    def next_wake_ms(self) -> float:
        """By when the next `Tick` must come."""
        return min(self._beat_ms, self._sweep_ms, self._test_due_ms(), self._fence_due()[0])

    def _discount_stall(self, now_ms: float) -> None:
        """Who did not run itself could not hear an agent act: the waits for others begin anew."""
        gap_ms = now_ms - self._now_ms
        if gap_ms < self._settings.stall_ms:
            return
        self._note(f"this guard did not run for {gap_ms:.0f} ms")
        self._fresh_ms = now_ms
        self._strikes = 0
        self._test_ms = max(self._test_ms, now_ms + self._settings.hung_query_ms)

    # -- what it hears -------------------------------------------------------------------------------------------------

    def _receive(self, envelope: Envelope) -> None:
        own = envelope.member == self._settings.member
        match envelope.message:
            case Told() as told if own and envelope.part is Part.AGENT:
                self._hear_agent(told)
            case Heartbeat(epoch=epoch) if not own and envelope.part is Part.GUARD:
                self._learn(epoch)
            case EpochNotice(epoch=epoch) if not own and envelope.part is Part.AGENT:
                self._learn(epoch)

    def _hear_agent(self, told: Told) -> None:
        self._told_ms = self._now_ms
        self._test_ms = self._now_ms + self._settings.agent_silent_ms
        self._strikes = 0
        if told.run and told.run != self._run:
            self._adopt(told.run)
        self._stopping, self._paused = told.stopping, told.paused
        if self._word not in (EngineWord.KILLING, EngineWord.DEAD):  # what a run died as does not change any more
            self._epoch, self._leading, self._lease_until_ms = told.epoch, told.leading, self._lease_told(told)
        if told.stopping or told.register_epoch > told.epoch:
            self._acted_ms = self._now_ms

    def _lease_told(self, told: Told) -> float:
        """An agent that has not seen the register since its start, or does not know what has become of all that its
        predecessor had in flight, does not know of every lease: what it says of none frees nobody from one.
        """
        if not told.leading or told.knows_lease:
            return told.lease_until_ms
        none_ms = self._now_ms + self._settings.lease_ms if self._settings.durability == "async" else 0.0
        return self._lease_until_ms or none_ms

    def _learn(self, epoch: int) -> None:
        """Somebody speaks of `epoch`."""
        if epoch > self._learned_epoch:
            self._learned_epoch, self._learned_ms = epoch, self._now_ms

    # -- the database's life -------------------------------------------------------------------------------------------

    def _adopt(self, run: str) -> None:
        """A run that is new to us. What it leads for is what the agent will say, or what we once knew of it."""
        self._run = run
        self._leading, self._lease_until_ms = False, 0.0
        if run == self._recalled.run:
            self._recall()
        elif self._settings.durability == "async" and self._told_ms == -math.inf:
            # Unexplained: it may be a leader whose lease nobody watched. The agent has this long to say otherwise.
            self._leading, self._lease_until_ms = True, self._now_ms + self._settings.lease_ms
        self._sweep_ms = math.inf
        self._say(EngineWord.RUNNING)
        self._out.append(Watch(run))

    def _recall(self) -> None:
        self._run, self._epoch = self._recalled.run, self._recalled.epoch
        self._leading, self._lease_until_ms = self._recalled.leading, self._recalled.lease_until_ms

    def _ended(self) -> None:
        if self._word is not EngineWord.RUNNING:
            return
        if self._stopping and self._agent_age_ms() <= self._settings.guard_grace_ms:
            self._say(EngineWord.STOPPED)
        else:
            self._condemn("its main process ended unannounced")

    def _condemn(self, why: str) -> None:
        """From here on nothing of this run may live."""
        self._note(f"the database of run {self._run} must end: {why}")
        self._say(EngineWord.KILLING)
        self._empty_sweeps = 0
        self._sweep_pause_ms = _SWEEP_FIRST_MS
        self._sweep()

    def _sweep(self) -> None:
        self._sweep_ms = self._now_ms + _SWEEP_MOST_MS  # unless the answer says otherwise
        self._out.append(Sweep(self._run, self._settings.engine_kill_allowed))

    def _swept(self, found: int, refused_pid: int) -> None:
        if refused_pid and refused_pid != self._refused_pid:
            self._note(f"process {refused_pid} may not be ended: run the guard as root or as the database's user")
        self._refused_pid = refused_pid
        if found:
            self._empty_sweeps = 0
            self._sweep_ms = self._now_ms + self._sweep_pause_ms
            self._sweep_pause_ms = min(_SWEEP_MOST_MS, 1.5 * self._sweep_pause_ms)
            return
        self._empty_sweeps += 1
        if self._empty_sweeps < _EMPTY_SWEEPS:
            self._sweep()
            return
        self._sweep_ms = math.inf
        self._repeats = _DEAD_REPEATS
        self._say(EngineWord.DEAD)

    # -- what time brings ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        due_ms, why = self._fence_due()
        if self._now_ms >= due_ms:
            if self._word is EngineWord.UNKNOWN:
                self._recall()
            self._condemn(why)
        if self._now_ms >= self._sweep_ms:
            self._sweep()
        if self._now_ms >= self._test_due_ms():
            self._test_ms = self._now_ms + 2 * self._settings.hung_query_ms
            self._out.append(Knock())
        if self._now_ms >= self._beat_ms:
            self._beat()

    def _fence_due(self) -> tuple[float, str]:
        """When the database must be ended as things stand, and why."""
        grace_ms = self._settings.guard_grace_ms
        agent_gone_ms = max(self._told_ms, self._fresh_ms) + grace_ms
        dues = [(math.inf, "")]
        if self._word is EngineWord.STOPPED:
            dues.append((agent_gone_ms, "the agent that stopped it has fallen silent"))
        if self._word is EngineWord.UNKNOWN and self._recalled.run and self._told_ms == -math.inf:
            dues.append((agent_gone_ms, "it ended while no guard was there, and no agent speaks for it"))
        fenceable = self._word is EngineWord.STOPPED or (
            self._word is EngineWord.RUNNING and self._settings.engine_kill_allowed
        )
        if fenceable and self._leading and self._lease_until_ms:
            dues.append((self._lease_until_ms, "its lease is over"))
        if fenceable and self._leading and self._learned_epoch > self._epoch:
            since_ms = max(self._learned_ms, self._acted_ms, self._fresh_ms)
            why = f"epoch {self._learned_epoch} has begun, it leads for {self._epoch}, and the agent does not act"
            dues.append((since_ms + grace_ms, why))
        return min(dues)

    def _test_due_ms(self) -> float:
        """A leader's database is tested when its agent has been silent for long."""
        matters = self._word is EngineWord.RUNNING and self._leading and not self._paused
        return self._test_ms if matters and self._settings.engine_kill_allowed else math.inf

    def _tested(self, answered: bool) -> None:
        self._strikes = 0 if answered else self._strikes + 1
        if self._strikes >= self._settings.hung_strikes:
            self._condemn("it did not answer new connections, and its agent is silent")

    # -- what it says --------------------------------------------------------------------------------------------------

    def _say(self, word: EngineWord) -> None:
        self._urgent = self._urgent or word is not self._word
        self._word = word

    def _beat(self) -> None:
        late = self._urgent or self._now_ms >= self._beat_ms + self._settings.heartbeat_ms
        widely = self._urgent or self._repeats > 0 or self._beats % _WIDELY_EVERY == 0
        heartbeat = Heartbeat(self._epoch, self._leading, self._agent_age_ms(), self._word, self._run)
        self._out.insert(0, Send(heartbeat, widely))  # before a sweep, which takes milliseconds
        if self._word not in (EngineWord.RUNNING, EngineWord.KILLING):
            self._out.append(Look())
        if self._repeats:
            self._repeats -= 1
            self._beat_ms = self._now_ms + _DEAD_EVERY_MS
        else:
            self._beat_ms = (self._now_ms if late else self._beat_ms) + self._settings.heartbeat_ms
        self._beats += 1
        self._urgent = False

    def _agent_age_ms(self) -> float:
        return min(_NEVER_AGE_MS, self._now_ms - self._told_ms)

    def _remember(self) -> None:
        stopped = self._word is EngineWord.STOPPED
        record = Record("" if stopped else self._run, self._epoch, self._leading and not stopped, self._lease_until_ms)
        if record != self._remembered and self._word is not EngineWord.UNKNOWN:
            self._remembered = record
            self._out.append(Remember(record))

    def _note(self, sentence: str) -> None:
        self._out.append(Note(sentence))
