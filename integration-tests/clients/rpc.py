"""Requests and replies over all protocols, from outside.

  rpc.py ADDRESSES respond                   answers everything; ready when it listens everywhere
  rpc.py ADDRESSES call CALLS                makes calls at once and prints {"answers": [...]}

ADDRESSES is JSON: {"http": PORT, "nats": URL, "amqp": URL, "devices": HOST:PORT, "broker": HOST:PORT,
"web": PORT, "queue": NAME}. CALLS is a JSON list of {"by": CALLER, "address": ..., "text": ...}.

A request is answered by its text: `say X` at once with X and the responder's name, `status N` with
that status, `late X` after a second, `silent` never.
"""

import asyncio
import json
import sys
import threading
import time
import uuid

import nats
import paho.mqtt.client as mqtt
import pika
from common import emit, ready
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT = 20
LATE = 1.0
REPLY_TYPE = "text/x-reply"


def judge(text, name):
    """What is answered, with which status, and after how long; `None` for nothing."""
    word, _, rest = text.partition(" ")
    if word == "silent":
        return None
    status = rest if word == "status" else None
    return f"{rest} by {name}", status, LATE if word == "late" else 0


# ---- responders


async def respond_http(port):
    async def serve(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = head.decode().split("\r\n")[1:]
            lengths = [one.split(":")[1] for one in fields if one.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            answer = judge(body.decode(), "http")
            if answer is None:
                await asyncio.sleep(TIMEOUT)
                return
            text, status, delay = answer
            await asyncio.sleep(delay)
            payload = text.encode()
            writer.write(
                f"HTTP/1.1 {status or 200} Said\r\nContent-Type: {REPLY_TYPE}\r\n"
                f"X-Tenant: blue\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
                + payload
            )
            await writer.drain()

    async def guarded(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(guarded, "127.0.0.1", port)


async def respond_nats(url):
    client = await nats.connect(url)

    async def received(message):
        answer = judge(message.data.decode(), "nats")
        if answer is None or not message.reply:
            return
        text, status, delay = answer
        headers = {"Content-Type": REPLY_TYPE, "X-Tenant": "blue"}
        if status:
            headers["Nats-Service-Error-Code"] = status
            headers["Nats-Service-Error"] = "as you asked"

        async def later():
            await asyncio.sleep(delay)
            await client.publish(message.reply, text.encode(), headers=headers)

        asyncio.ensure_future(later())

    await client.subscribe("service", cb=received)
    await client.flush()
    return client


def respond_amqp(url, queue, listening):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue, exclusive=True)

    def received(_channel, _method, properties, body):
        answer = judge(body.decode(), "amqp")
        if answer is None or not properties.reply_to:
            return
        text, status, delay = answer
        headers = {"X-Tenant": "blue"}
        if status:
            headers["status"] = int(status)
        reply = pika.BasicProperties(
            content_type=REPLY_TYPE, correlation_id=properties.correlation_id, headers=headers
        )

        def send():
            channel.basic_publish("", properties.reply_to, text.encode(), reply)

        if delay:
            connection.call_later(delay, send)
        else:
            send()

    channel.basic_consume(queue, received, auto_ack=True)
    listening.release()
    channel.start_consuming()


def respond_mqtt(address, name, version, topic, listening):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=version)

    def received(_client, _userdata, message):
        answer = judge(message.payload.decode(), name)
        if answer is None:
            return
        text, status, delay = answer
        fields = {}
        if version == mqtt.MQTTv5:
            reply_to = message.properties.ResponseTopic
            fields["properties"] = properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = message.properties.CorrelationData
            properties.ContentType = REPLY_TYPE
            properties.UserProperty = ("X-Tenant", "blue")
            if status:
                properties.UserProperty = ("status", status)
        else:
            # do/NAME/CORRELATION is answered under done/NAME/CORRELATION.
            reply_to = "done" + message.topic[len("do") :]
        send = lambda: client.publish(reply_to, text.encode(), qos=1, **fields)
        threading.Timer(delay, send).start() if delay else send()

    client.on_message = received
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_subscribe = lambda *_: listening.release()
    host, port = address.rsplit(":", 1)
    client.connect(host, int(port))
    client.loop_start()
    return client


async def respond(addresses):
    listening = threading.Semaphore(0)
    parts = [await respond_http(addresses["http"]), await respond_nats(addresses["nats"])]
    amqp = (addresses["amqp"], addresses["queue"], listening)
    threading.Thread(target=respond_amqp, args=amqp, daemon=True).start()
    for place in ("devices", "broker"):
        address = addresses[place]
        old, new = mqtt.MQTTv311, mqtt.MQTTv5
        parts.append(respond_mqtt(address, place, new, f"do/{place}", listening))
        parts.append(respond_mqtt(address, f"{place}-3", old, f"do/{place}-3/+", listening))
    for _ in range(5):
        await asyncio.to_thread(listening.acquire)
    ready()
    await asyncio.Event().wait()


# ---- callers: each makes its calls at once, and returns their answers in order


def answer(text, status=None, content_type=None, tenant=None, own=True, error=None):
    return {
        "text": text,
        "status": int(status) if status is not None else None,
        "content_type": content_type,
        "tenant": tenant,
        # Whether it came with the correlation of its own request.
        "own": own,
        "error": error,
    }


async def call_web(addresses, calls):
    async def one(call):
        reader, writer = await asyncio.open_connection("127.0.0.1", addresses["web"])
        body = call["text"].encode()
        writer.write(
            f"POST /{call['address']} HTTP/1.1\r\nHost: x\r\nX-Correlation-Id: mine\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        head, _, payload = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines[1:])}
        return answer(
            payload.decode(),
            lines[0].split()[1],
            fields.get("content-type"),
            fields.get("x-tenant"),
            fields.get("x-correlation-id") == "mine",
            fields.get("reply-error"),
        )

    return await asyncio.gather(*map(one, calls))


async def call_nats(addresses, calls):
    client = await nats.connect(addresses["nats"])

    async def one(call):
        subject = call["address"].replace("/", ".")
        headers = {"Correlation-Id": call["text"].replace(" ", "-")}
        message = await client.request(
            subject, call["text"].encode(), timeout=TIMEOUT, headers=headers
        )
        found = {name.lower(): value for name, value in (message.headers or {}).items()}
        return answer(
            message.data.decode(),
            found.get("nats-service-error-code") or found.get("status"),
            found.get("content-type"),
            found.get("x-tenant"),
            found.get("correlation-id") == headers["Correlation-Id"],
            found.get("reply-error"),
        )

    answers = await asyncio.gather(*map(one, calls))
    await client.close()
    return answers


def call_amqp(addresses, calls, direct):
    connection = pika.BlockingConnection(pika.URLParameters(addresses["amqp"]))
    channel = connection.channel()
    if direct:
        queue = "amq.rabbitmq.reply-to"
    else:
        queue = channel.queue_declare("", exclusive=True).method.queue
    answers = {}

    def received(_channel, _method, properties, body):
        headers = {name.lower(): value for name, value in (properties.headers or {}).items()}
        answers[properties.correlation_id] = answer(
            body.decode(),
            headers.get("status"),
            properties.content_type,
            headers.get("x-tenant"),
            error=headers.get("reply-error"),
        )

    channel.basic_consume(queue, received, auto_ack=True)
    ids = [str(uuid.uuid4()) for _ in calls]
    for own, call in zip(ids, calls):
        channel.basic_publish(
            "amq.topic",
            call["address"].replace("/", "."),
            call["text"].encode(),
            pika.BasicProperties(reply_to=queue, correlation_id=own),
        )
    end = time.monotonic() + TIMEOUT
    while len(answers) < len(calls) and time.monotonic() < end:
        connection.process_data_events(time_limit=0.1)
    connection.close()
    return [answers.get(own) for own in ids]


def call_mqtt(address, calls):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(200)
    inbox = f"inbox/{uuid.uuid4()}"
    answers, changed, subscribed = {}, threading.Condition(), threading.Event()

    def received(_client, _userdata, message):
        properties = message.properties
        user = {name.lower(): value for name, value in getattr(properties, "UserProperty", [])}
        with changed:
            answers[bytes(properties.CorrelationData)] = answer(
                message.payload.decode(),
                user.get("status"),
                getattr(properties, "ContentType", None),
                user.get("x-tenant"),
                error=user.get("reply-error"),
            )
            changed.notify()

    client.on_message = received
    client.on_connect = lambda *_: client.subscribe(inbox, 1)
    client.on_subscribe = lambda *_: subscribed.set()
    host, port = address.rsplit(":", 1)
    client.connect(host, int(port))
    client.loop_start()
    subscribed.wait(TIMEOUT)
    # Bytes that are no text, as Correlation Data may be.
    ids = [b"\xff\x00" + str(number).encode() for number in range(len(calls))]
    for own, call in zip(ids, calls):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = inbox
        properties.CorrelationData = own
        client.publish(call["address"], call["text"].encode(), qos=1, properties=properties)
    with changed:
        changed.wait_for(lambda: len(answers) == len(calls), timeout=TIMEOUT)
        found = [answers.get(own) for own in ids]
    client.disconnect()
    client.loop_stop()
    return found


async def call(addresses, calls):
    by = {}
    for place, one in enumerate(calls):
        by.setdefault(one["by"], []).append((place, one))

    async def of(caller, placed):
        own = [one for _, one in placed]
        if caller == "web":
            return await call_web(addresses, own)
        if caller == "nats":
            return await call_nats(addresses, own)
        if caller in ("amqp", "amqp-direct"):
            return await asyncio.to_thread(call_amqp, addresses, own, caller == "amqp-direct")
        return await asyncio.to_thread(call_mqtt, addresses[caller], own)

    groups = await asyncio.gather(*(of(caller, placed) for caller, placed in by.items()))
    answers = [None] * len(calls)
    for placed, found in zip(by.values(), groups):
        for (place, _), one in zip(placed, found):
            answers[place] = one
    emit(answers=answers)


def main():
    addresses = json.loads(sys.argv[1])
    if sys.argv[2] == "respond":
        asyncio.run(respond(addresses))
    else:
        asyncio.run(call(addresses, json.loads(sys.argv[3])))


main()
