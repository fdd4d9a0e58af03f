"""MQTT 3.1.1 and 5 (and 3.1, to be refused) by paho-mqtt.

  mqtt.py HOST:PORT publish [--version 3|4|5] [--qos N] [--pipelined]
  mqtt.py HOST:PORT consume TOPIC... [--version 3|4|5] [--qos N] [--session] [--no-ack]
                                     [--answer-under TOPIC]

A message to publish may say "qos" and "retain". Pipelined, it does not wait for one's
acknowledgement before the next one goes out; outcomes are still printed in order.
With --answer-under, each JSON object that comes is answered there by one with the same "id", behind
a message of the client's own accord with an "id" of its own.

Common: [--client-id ID] [--keep-alive SECONDS] [--websocket PATH] [--username NAME --password TEXT]
        [--will JSON] [--receive-maximum N] [--auth-method NAME]
        [--ca FILE [--certificate FILE --key FILE]] for TLS, also with --websocket
"""

import argparse
import json
import os
import queue
import sys
import threading

import paho.mqtt.client as mqtt
from common import decode, emit, encode, jsonable, messages
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

NAMES = {
    "content_type": "ContentType",
    "correlation": "CorrelationData",
    "response_topic": "ResponseTopic",
    "expiry": "MessageExpiryInterval",
    "payload_format": "PayloadFormatIndicator",
}


def outgoing_properties(message, kind=PacketTypes.PUBLISH):
    properties = Properties(kind)
    for name, value in message.get("properties", {}).items():
        setattr(properties, NAMES[name], decode(value) if name == "correlation" else value)
    for name, value in message.get("headers", []):
        properties.UserProperty = (name, value)
    return properties


def incoming_properties(message):
    properties = getattr(message, "properties", None)
    if properties is None:
        return {}, []
    known = {}
    for name, theirs in NAMES.items():
        value = getattr(properties, theirs, None)
        if value is not None:
            known[name] = encode(value) if name == "correlation" else value
    return known, [list(pair) for pair in getattr(properties, "UserProperty", [])]


def make_client(arguments):
    version = {3: mqtt.MQTTv31, 4: mqtt.MQTTv311, 5: mqtt.MQTTv5}[arguments.version]
    fields = {"client_id": arguments.client_id or "", "protocol": version}
    if arguments.websocket:
        fields["transport"] = "websockets"
    if version != mqtt.MQTTv5:
        fields["clean_session"] = not arguments.session
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, manual_ack=arguments.no_ack, **fields
    )
    # paho does not read the server's receive maximum, whose default here is 256.
    client.max_inflight_messages_set(200)
    if arguments.websocket:
        client.ws_set_options(path=arguments.websocket)
    if arguments.ca:
        client.tls_set(arguments.ca, arguments.certificate, arguments.key)
    if arguments.username is not None:
        client.username_pw_set(arguments.username, arguments.password)
    if arguments.will:
        will = json.loads(arguments.will)
        fields = {"qos": will.get("qos", 0), "retain": will.get("retain", False)}
        if version == mqtt.MQTTv5:
            fields["properties"] = outgoing_properties(will, PacketTypes.WILLMESSAGE)
        client.will_set(will["address"], decode(will.get("payload", "")), **fields)
    return client


def connect(client, arguments):
    """Connects, and returns whether the server had a session; ends the program if it refuses."""
    answers = queue.Queue()

    def connected(_client, _userdata, flags, reason, _properties):
        answers.put((reason, flags.session_present))

    client.on_connect = connected
    host, port = arguments.address.rsplit(":", 1)
    fields = {}
    if arguments.version == 5:
        properties = Properties(PacketTypes.CONNECT)
        if arguments.session:
            properties.SessionExpiryInterval = 3600
        if arguments.auth_method:
            properties.AuthenticationMethod = arguments.auth_method
        if arguments.receive_maximum:
            properties.ReceiveMaximum = arguments.receive_maximum
        fields = {"clean_start": not arguments.session, "properties": properties}
    client.connect(host, int(port), keepalive=arguments.keep_alive, **fields)
    client.loop_start()
    reason, session = answers.get(timeout=arguments.timeout)
    if reason.is_failure:
        emit(refused=reason.value, reason=str(reason))
        sys.stdout.flush()
        os._exit(3)
    return session


def publish(client, arguments):
    connect(client, arguments)
    reasons = {}
    known = threading.Condition()

    def published(_client, _userdata, mid, reason, _properties):
        with known:
            reasons[mid] = reason
            known.notify_all()

    def outcome(mid):
        with known:
            if not known.wait_for(lambda: mid in reasons, timeout=arguments.timeout):
                emit(ok=False, error="no acknowledgement")
                return
            reason = reasons[mid]
        emit(ok=not reason.is_failure, reason=reason.value)

    client.on_publish = published
    unconfirmed = []
    for message in messages():
        fields = {"qos": message.get("qos", arguments.qos), "retain": message.get("retain", False)}
        if arguments.version == 5:
            fields["properties"] = outgoing_properties(message)
        sent = client.publish(message["address"], message["payload"], **fields)
        if arguments.pipelined:
            unconfirmed.append(sent.mid)
        else:
            outcome(sent.mid)
    for mid in unconfirmed:
        outcome(mid)
    client.disconnect()
    client.loop_stop()


def consume(client, arguments):
    subscribed = queue.Queue()

    def received(_client, _userdata, message):
        properties, headers = incoming_properties(message)
        emit(
            address=message.topic,
            payload=encode(message.payload),
            qos=message.qos,
            retain=bool(message.retain),
            dup=bool(message.dup),
            properties=jsonable(properties),
            headers=headers,
        )
        if arguments.answer_under:
            asked = json.loads(message.payload)
            for said in [{"id": 7, "event": "tick"}, {"id": asked["id"], "echo": asked["say"]}]:
                client.publish(arguments.answer_under, json.dumps(said), 1)

    client.on_message = received
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: subscribed.put(reasons)
    client.on_disconnect = lambda _c, _u, _f, reason, _p: emit(disconnected=reason.value)
    session = connect(client, arguments)
    if arguments.topics:
        client.subscribe([(topic, arguments.qos) for topic in arguments.topics])
        granted = [reason.value for reason in subscribed.get(timeout=20)]
    else:
        granted = []
    emit(ready=True, session=bool(session), granted=granted)
    # Ends when whoever started it closes the standard input: without a DISCONNECT then.
    sys.stdin.read()
    sys.stdout.flush()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    commands = parser.add_subparsers(required=True)
    for name, run in [("publish", publish), ("consume", consume)]:
        command = commands.add_parser(name)
        if run is consume:
            command.add_argument("topics", nargs="*")
            command.add_argument("--answer-under")
        else:
            command.add_argument("--pipelined", action="store_true")
        command.add_argument("--version", type=int, choices=[3, 4, 5], default=5)
        command.add_argument("--qos", type=int, default=1)
        command.add_argument("--session", action="store_true")
        command.add_argument("--no-ack", action="store_true")
        command.add_argument("--client-id")
        command.add_argument("--keep-alive", type=int, default=60)
        command.add_argument("--websocket")
        command.add_argument("--username")
        command.add_argument("--password")
        command.add_argument("--will")
        command.add_argument("--receive-maximum", type=int)
        command.add_argument("--auth-method")
        command.add_argument("--ca")
        command.add_argument("--certificate")
        command.add_argument("--key")
        command.add_argument("--timeout", type=float, default=20)
        command.set_defaults(run=run)
    arguments = parser.parse_args()
    arguments.run(make_client(arguments), arguments)


main()
