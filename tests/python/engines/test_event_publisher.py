"""Publishing and replaying batches over ZMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import zmq
import zmq.asyncio
from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.event_publisher import END_SEQ, KvEventPublisher

LOCAL = "tcp://127.0.0.1:0"
TIMEOUT = 60.0


@pytest.fixture
async def context() -> AsyncIterator[zmq.asyncio.Context]:
    context = zmq.asyncio.Context()
    yield context
    context.destroy(linger=0)


async def ask(context: zmq.asyncio.Context, endpoint: str, *frames: bytes) -> list[list[bytes]]:
    """Every message of a replay, the end mark included."""
    dealer = context.socket(zmq.DEALER)
    dealer.connect(endpoint)
    await dealer.send_multipart(list(frames))
    messages = []
    while not messages or messages[-1][2] != END_SEQ:
        messages.append(await asyncio.wait_for(dealer.recv_multipart(), TIMEOUT))
    dealer.close(linger=0)
    return messages


def seq(number: int) -> bytes:
    return number.to_bytes(8, "big")


async def test_a_replay_gives_all_from_the_number_asked_for(context: zmq.asyncio.Context) -> None:
    async with KvEventPublisher(LOCAL, replay_endpoint=LOCAL, topic="t") as publisher:
        for number in range(16):
            assert publisher.publish(b"p%d" % number) == number
        assert publisher.replay_endpoint is not None
        messages = await ask(context, publisher.replay_endpoint, b"", seq(12))
    assert messages[:-1] == [[b"", b"t", seq(n), b"p%d" % n] for n in range(12, 16)]
    assert messages[-1] == [b"", b"", END_SEQ, b""]


async def test_what_the_buffer_lost_is_left_out(context: zmq.asyncio.Context) -> None:
    async with KvEventPublisher(LOCAL, replay_endpoint=LOCAL, buffer_steps=10) as publisher:
        for number in range(16):
            publisher.publish(b"p%d" % number)
        assert publisher.replay_endpoint is not None
        messages = await ask(context, publisher.replay_endpoint, b"", seq(0))
        later = await ask(context, publisher.replay_endpoint, b"", seq(14))
        beyond = await ask(context, publisher.replay_endpoint, b"", seq(99))
    assert [message[2] for message in messages[:-1]] == [seq(number) for number in range(6, 16)]
    assert [message[2] for message in later[:-1]] == [seq(14), seq(15)]
    assert beyond == [[b"", b"", END_SEQ, b""]]


async def test_the_buffer_is_bounded_in_bytes(context: zmq.asyncio.Context) -> None:
    async with KvEventPublisher(LOCAL, replay_endpoint=LOCAL, buffer_bytes=100) as publisher:
        for _ in range(5):
            publisher.publish(bytes(40))
        assert publisher.replay_endpoint is not None
        messages = await ask(context, publisher.replay_endpoint, b"", seq(0))
    assert [message[2] for message in messages[:-1]] == [seq(3), seq(4)]


@pytest.mark.parametrize("frames", [(seq(0),), (b"", b"short"), (b"", seq(0), b"more"), (b"",)])
async def test_a_malformed_request_gets_no_answer_and_harms_nobody(
    context: zmq.asyncio.Context, frames: tuple[bytes, ...]
) -> None:
    async with KvEventPublisher(LOCAL, replay_endpoint=LOCAL) as publisher:
        publisher.publish(b"p")
        assert publisher.replay_endpoint is not None
        dealer = context.socket(zmq.DEALER)
        dealer.connect(publisher.replay_endpoint)
        await dealer.send_multipart(list(frames))
        await dealer.send_multipart([b"", seq(0)])
        answer = await asyncio.wait_for(dealer.recv_multipart(), TIMEOUT)
    assert answer == [b"", b"", seq(0), b"p"]


async def test_one_that_asks_and_leaves_does_not_stop_the_next(
    context: zmq.asyncio.Context,
) -> None:
    async with KvEventPublisher(LOCAL, replay_endpoint=LOCAL) as publisher:
        for _ in range(2_000):
            publisher.publish(bytes(1_000))
        assert publisher.replay_endpoint is not None
        rude = context.socket(zmq.DEALER)
        rude.connect(publisher.replay_endpoint)
        await rude.send_multipart([b"", seq(0)])
        await asyncio.wait_for(rude.recv_multipart(), TIMEOUT)
        rude.close(linger=0)
        messages = await ask(context, publisher.replay_endpoint, b"", seq(1_999))
    assert len(messages) == 2


async def test_subscribers_get_topic_number_and_payload(context: zmq.asyncio.Context) -> None:
    async with KvEventPublisher(LOCAL, topic="kv") as publisher:
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"kv")
        subscriber.connect(publisher.endpoint)
        arrival = asyncio.ensure_future(subscriber.recv_multipart())
        while not arrival.done():
            publisher.publish(b"payload")
            await asyncio.wait([arrival], timeout=0.01)
        topic, number, payload = arrival.result()
    assert (topic, payload) == (b"kv", b"payload")
    assert int.from_bytes(number, "big") < publisher.next_seq


async def test_it_connects_where_the_router_binds(context: zmq.asyncio.Context) -> None:
    subscriber = context.socket(zmq.SUB)
    subscriber.subscribe(b"")
    port = subscriber.bind_to_random_port("tcp://127.0.0.1")
    endpoint = f"tcp://127.0.0.1:{port}"
    async with KvEventPublisher(endpoint, connect=True) as publisher:
        assert publisher.endpoint == endpoint
        arrival = asyncio.ensure_future(subscriber.recv_multipart())
        while not arrival.done():
            publisher.publish(b"payload")
            await asyncio.wait([arrival], timeout=0.01)
    assert arrival.result()[2] == b"payload"


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async with KvEventPublisher(LOCAL) as publisher:
        with pytest.raises(InvalidConfigError, match=publisher.endpoint):
            KvEventPublisher(publisher.endpoint)
        with pytest.raises(InvalidConfigError, match=publisher.endpoint):
            KvEventPublisher(LOCAL, replay_endpoint=publisher.endpoint)
