"""AMQP 0-9-1 by pika.

  amqp.py URL publish [--exchange NAME] [--mandatory]       addresses are routing keys
  amqp.py URL consume QUEUE [--bind EXCHANGE KEY]... [--prefetch N] [--no-ack] [--declare]
  amqp.py URL declare QUEUE [--bind EXCHANGE KEY]... [--argument NAME JSON]...
  amqp.py URL depth QUEUE                                    prints {"messages": N}
  amqp.py URL delete QUEUE
  amqp.py URL exchange NAME                                  a topic exchange
"""

import argparse
import json

import pika
from common import emit, encode, jsonable, messages, ready

PROPERTIES = (
    "content_type content_encoding delivery_mode priority correlation_id reply_to expiration "
    "message_id timestamp type user_id app_id"
).split()


def declare(channel, arguments):
    extra = {name: json.loads(value) for name, value in arguments.argument}
    channel.queue_declare(arguments.queue, durable=True, arguments=extra)
    for exchange, key in arguments.bind:
        channel.queue_bind(arguments.queue, exchange, key)


def publish(channel, arguments):
    channel.confirm_delivery()
    for message in messages():
        properties = pika.BasicProperties(
            headers=message.get("headers") or None, **message.get("properties", {})
        )
        try:
            channel.basic_publish(
                arguments.exchange,
                message["address"],
                message["payload"],
                properties,
                mandatory=arguments.mandatory,
            )
            emit(ok=True)
        except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
            emit(ok=False, error=type(error).__name__)


def consume(channel, arguments):
    if arguments.declare:
        declare(channel, arguments)
    channel.basic_qos(prefetch_count=arguments.prefetch)

    def received(_, method, properties, body):
        known = {name: getattr(properties, name) for name in PROPERTIES}
        emit(
            address=method.routing_key,
            exchange=method.exchange,
            redelivered=method.redelivered,
            payload=encode(body),
            headers=jsonable(properties.headers or {}),
            properties={name: value for name, value in known.items() if value is not None},
        )
        if not arguments.no_ack:
            channel.basic_ack(method.delivery_tag)

    channel.basic_consume(arguments.queue, received)
    ready()
    channel.start_consuming()


def depth(channel, arguments):
    state = channel.queue_declare(arguments.queue, passive=True)
    emit(messages=state.method.message_count)


def delete(channel, arguments):
    channel.queue_delete(arguments.queue)
    emit(ok=True)


def exchange(channel, arguments):
    channel.exchange_declare(arguments.queue, "topic", durable=True)
    emit(ok=True)


def declare_only(channel, arguments):
    declare(channel, arguments)
    emit(ok=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    commands = parser.add_subparsers(required=True)
    publisher = commands.add_parser("publish")
    publisher.add_argument("--exchange", default="amq.topic")
    publisher.add_argument("--mandatory", action="store_true")
    publisher.set_defaults(run=publish)
    for name, run in [("consume", consume), ("declare", declare_only)]:
        command = commands.add_parser(name)
        command.add_argument("queue")
        command.add_argument("--bind", nargs=2, action="append", default=[])
        command.add_argument("--argument", nargs=2, action="append", default=[])
        command.add_argument("--prefetch", type=int, default=100)
        command.add_argument("--no-ack", action="store_true")
        command.add_argument("--declare", action="store_true")
        command.set_defaults(run=run)
    for name, run in [("depth", depth), ("delete", delete), ("exchange", exchange)]:
        command = commands.add_parser(name)
        command.add_argument("queue")
        command.set_defaults(run=run)
    arguments = parser.parse_args()
    connection = pika.BlockingConnection(pika.URLParameters(arguments.url))
    arguments.run(connection.channel(), arguments)
    connection.close()


main()
