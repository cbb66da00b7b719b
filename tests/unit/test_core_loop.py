"""The core's loop and its socket: one frame a step, alone failures, wake-ups, the end of the other side."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed
from weir.engines.core.channel import Channel
from weir.engines.core.loop import CoreLoop


class Counter:
    """A backend whose tokens are 0, 1, 2, … for every request: the smallest real one."""

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.next: dict[int, int] = {}
        self.late: list[m.Event] = []

    def ready(self) -> m.Ready:
        return m.Ready(max_context=8, capabilities=[])

    def submit(self, request: m.Submit) -> None:
        if not request.prompt:
            raise RequestFailed("INVALID_REQUEST", "Give a prompt.", fields={"prompt": "is empty"})
        self.left[request.id], self.next[request.id] = request.max_tokens, 0

    def abort(self, request: int) -> None:
        self.left.pop(request, None)

    def open_session(self, session: int) -> None:
        raise NotImplementedError

    def close_session(self, session: int) -> None:
        raise NotImplementedError

    def call(self, call: m.Call) -> None:
        raise RequestFailed("UNSUPPORTED", "No sessions here.")

    def has_work(self) -> bool:
        return bool(self.left or self.late)

    def step(self) -> Sequence[m.Event]:
        events, self.late = self.late, []
        for number in list(self.left):
            self.left[number] -= 1
            done = not self.left[number]
            events.append(m.Output(number, [self.next[number]], finish="length" if done else ""))
            self.next[number] += 1
            if done:
                del self.left[number]
        return events

    def stats(self) -> m.Stats:
        return m.Stats(running=len(self.left))

    def close(self) -> None:
        self.left.clear()


class Peer:
    """The server's side of a running loop."""

    def __init__(self) -> None:
        self.backend = Counter()
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(5)
        self.channel = Channel(theirs)
        self.thread = threading.Thread(target=CoreLoop(self.backend, self.channel).run)
        self.thread.start()

    def send(self, *messages: m.ToCore) -> None:
        payloads = map(m.encode, messages)
        self.socket.sendall(b"".join(len(p).to_bytes(4, "big") + p for p in payloads))

    def receive(self) -> m.Frame:
        size = int.from_bytes(self.socket.recv(4, socket.MSG_WAITALL), "big")
        frame = m.decode_to_server(self.socket.recv(size, socket.MSG_WAITALL))
        assert isinstance(frame, m.Frame)
        return frame

    def until(self, met: Callable[[m.Frame], bool]) -> list[m.Frame]:
        frames = [self.receive()]
        while not met(frames[-1]):
            frames.append(self.receive())
        return frames

    def close(self) -> None:
        self.socket.close()
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.channel.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def test_a_step_sends_the_tokens_of_all_requests_in_one_frame(peer: Peer) -> None:
    peer.send(m.Submit(1, [5], 3), m.Submit(2, [5], 3))
    frames = peer.until(lambda frame: bool(frame.events) and frame.events[0].finish != "")  # type: ignore[union-attr]
    assert len(frames) == 3
    assert all({event.id for event in frame.events} == {1, 2} for frame in frames)  # type: ignore[union-attr]


def test_load_is_sent_when_it_changes_and_only_then(peer: Peer) -> None:
    peer.send(m.Submit(1, [5], 4))
    frames = peer.until(lambda frame: frame.stats == m.Stats())
    assert [frame.stats for frame in frames] == [m.Stats(running=1), None, None, m.Stats()]


def test_a_refused_request_fails_alone(peer: Peer) -> None:
    peer.send(m.Submit(1, [], 2), m.Submit(2, [5], 1))
    events = peer.receive().events
    assert m.Failed("INVALID_REQUEST", "Give a prompt.", fields={"prompt": "is empty"}, request=1) in events
    assert m.Output(2, [0], finish="length") in events


def test_a_refused_call_is_answered(peer: Peer) -> None:
    peer.send(m.Score(9, [1], [2]))
    assert peer.receive().events == [m.Failed("UNSUPPORTED", "No sessions here.", call=9)]


def test_an_abort_is_heard_between_steps(peer: Peer) -> None:
    peer.send(m.Submit(1, [5], 1_000_000_000))
    peer.receive()
    peer.send(m.Abort(1))
    peer.until(lambda frame: frame.stats == m.Stats())


def test_a_backend_with_threads_of_its_own_wakes_the_loop(peer: Peer) -> None:
    peer.backend.late.append(m.Extended(3, []))
    peer.channel.wake()
    assert peer.receive().events == [m.Extended(3, [])]


def test_the_loop_ends_when_the_server_is_gone_in_mid_stream() -> None:
    peer = Peer()
    peer.send(m.Submit(1, [5], 1_000_000_000))
    peer.receive()
    peer.close()


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 60), max_size=30))
def test_frames_survive_any_cut_of_the_stream(payloads: list[bytes], sizes: list[int]) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    stream = b"".join(len(p).to_bytes(4, "big") + p for p in payloads)
    received: list[bytes] = []
    for size in [*sizes, len(stream)]:
        ours.sendall(stream[:size])
        stream = stream[size:]
        received += channel.receive(0.0)
    ours.close()
    channel.close()
    assert received == payloads


@pytest.mark.parametrize(
    "message",
    [
        m.Start("openvino", {"model": "x", "adapters": {"a": "b"}}),
        m.Submit(
            1, [1, 2], 3, temperature=0.5, constraint_kind="choices", constraint_value=["a"], logprobs=True
        ),
        m.Extend(1, 2, [3], top=4, logits=True, masks=[b"\x01"], last_only=True),
        m.Draft(1, 2, [3], 4),
        m.Score(1, [2], [3]),
        m.Abort(1),
        m.OpenSession(1),
        m.CloseSession(1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_cross_unchanged(message: m.ToCore) -> None:
    assert m.decode_to_core(m.encode(message)) == message
