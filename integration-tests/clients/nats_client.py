"""NATS by nats-py: core subjects and JetStream.

  nats_client.py URL publish [--jetstream]
  nats_client.py URL consume SUBJECT... [--queue GROUP]
  nats_client.py URL consume-stream STREAM SUBJECT
  nats_client.py URL stream NAME SUBJECT...                  creates a stream
  nats_client.py URL state NAME                              prints {"messages": N, "pending": {consumer: N}}
"""

import argparse
import asyncio

import nats
from common import emit, encode, messages, ready
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig


def show(message):
    fields = {"address": message.subject, "payload": encode(message.data), "reply": message.reply}
    fields["headers"] = dict(message.headers or {})
    emit(**fields)


async def publish(client, arguments):
    stream = client.jetstream()
    for message in messages():
        headers = message.get("headers") or None
        if arguments.jetstream:
            ack = await stream.publish(
                message["address"], message["payload"], headers=headers, timeout=20
            )
            emit(ok=True, stream=ack.stream, sequence=ack.seq, duplicate=bool(ack.duplicate))
        else:
            await client.publish(
                message["address"],
                message["payload"],
                reply=message.get("reply") or "",
                headers=headers,
            )
            await client.flush(timeout=20)
            emit(ok=True)


async def consume(client, arguments):
    async def received(message):
        show(message)

    for subject in arguments.subjects:
        await client.subscribe(subject, queue=arguments.queue or "", cb=received)
    await client.flush(timeout=20)
    ready()
    await asyncio.Event().wait()


async def consume_stream(client, arguments):
    stream = client.jetstream()
    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.ALL, ack_wait=60
    )
    subscription = await stream.pull_subscribe(
        arguments.subject, stream=arguments.stream, config=config
    )
    ready()
    while True:
        try:
            batch = await subscription.fetch(100, timeout=1)
        except asyncio.TimeoutError:
            # Which nats.errors.TimeoutError is too; both are raised when nothing came.
            continue
        for message in batch:
            show(message)
            await message.ack()


async def make_stream(client, arguments):
    config = StreamConfig(name=arguments.name, subjects=arguments.subjects)
    await client.jetstream().add_stream(config)
    emit(ok=True)


async def state(client, arguments):
    stream = client.jetstream()
    info = await stream.stream_info(arguments.name)
    consumers = await stream.consumers_info(arguments.name)
    pending = {one.name: one.num_pending + one.num_ack_pending for one in consumers}
    emit(messages=info.state.messages, pending=pending)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("publish")
    command.add_argument("--jetstream", action="store_true")
    command.set_defaults(run=publish)
    command = commands.add_parser("consume")
    command.add_argument("subjects", nargs="+")
    command.add_argument("--queue")
    command.set_defaults(run=consume)
    command = commands.add_parser("consume-stream")
    command.add_argument("stream")
    command.add_argument("subject")
    command.set_defaults(run=consume_stream)
    command = commands.add_parser("stream")
    command.add_argument("name")
    command.add_argument("subjects", nargs="+")
    command.set_defaults(run=make_stream)
    command = commands.add_parser("state")
    command.add_argument("name")
    command.set_defaults(run=state)
    return parser.parse_args()


async def main():
    arguments = parse()
    client = await nats.connect(arguments.url)
    await arguments.run(client, arguments)
    await client.close()


asyncio.run(main())
