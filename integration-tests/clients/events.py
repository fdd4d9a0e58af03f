"""CloudEvents by the official SDK.

  events.py - make binary|structured [ID]   prints {"headers": {NAME: TEXT}, "payload": BASE64}
  events.py - read HEADERS PAYLOAD          HEADERS as JSON, PAYLOAD as base64; prints the event, and
                                            whether it is the one that was made
  events.py - read-batch PAYLOAD            prints the ids of the events of a JSON batch, and whether each
                                            is otherwise the one that was made; the SDK knows no batches, so
                                            each element is given to it by itself
"""

import json
import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.http import HTTPMessage, from_http, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from common import decode, emit, encode


def made(id="A234-1234-1234"):
    return CloudEvent(
        attributes={
            "id": id,
            "source": "/mycontext",
            "type": "com.example.someevent",
            "subject": "Euro € 😀",
            "time": datetime(2018, 4, 5, 17, 31, tzinfo=timezone.utc),
            "datacontenttype": "application/json",
            "comexampleextension1": 'value with "quotes" and 100%',
        },
        data={"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
    )


def read(headers, body):
    return from_http(HTTPMessage(headers=headers, body=body), JSONFormat())


def same(event, other):
    return event.get_attributes() == other.get_attributes() and event.get_data() == other.get_data()


def main():
    command = sys.argv[2]
    if command == "make":
        make = {"binary": to_binary, "structured": to_structured}[sys.argv[3]]
        message = make(made(*sys.argv[4:5]), JSONFormat())
        emit(headers=dict(message.headers), payload=encode(message.body))
    elif command == "read-batch":
        headers = {"content-type": JSONFormat.CONTENT_TYPE}
        elements = json.loads(decode(sys.argv[3]))
        events = [read(headers, json.dumps(element).encode()) for element in elements]
        emit(
            ids=[event.get_id() for event in events],
            same=all(same(event, made(event.get_id())) for event in events),
        )
    else:
        headers = {name.lower(): text for name, text in json.loads(sys.argv[3]).items()}
        event = read(headers, decode(sys.argv[4]))
        attributes = event.get_attributes()
        emit(
            attributes={name: str(value) for name, value in attributes.items()},
            data=event.get_data(),
            same=same(event, made()),
        )


main()
