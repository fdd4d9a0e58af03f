"""CloudEvents by the official SDK.

  events.py - make binary|structured        prints {"headers": {NAME: TEXT}, "payload": BASE64}
  events.py - read HEADERS PAYLOAD          HEADERS as JSON, PAYLOAD as base64; prints the event, and
                                            whether it is the one that was made
"""

import json
import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.http import HTTPMessage, from_http, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from common import decode, emit, encode

EVENT = CloudEvent(
    attributes={
        "id": "A234-1234-1234",
        "source": "/mycontext",
        "type": "com.example.someevent",
        "subject": "Euro € 😀",
        "time": datetime(2018, 4, 5, 17, 31, tzinfo=timezone.utc),
        "datacontenttype": "application/json",
        "comexampleextension1": 'value with "quotes" and 100%',
    },
    data={"appinfoA": "abc", "appinfoB": 123, "appinfoC": True},
)


def main():
    command = sys.argv[2]
    if command == "make":
        make = {"binary": to_binary, "structured": to_structured}[sys.argv[3]]
        message = make(EVENT, JSONFormat())
        emit(headers=dict(message.headers), payload=encode(message.body))
    else:
        headers = {name.lower(): text for name, text in json.loads(sys.argv[3]).items()}
        event = from_http(HTTPMessage(headers=headers, body=decode(sys.argv[4])), JSONFormat())
        attributes = event.get_attributes()
        emit(
            attributes={name: str(value) for name, value in attributes.items()},
            data=event.get_data(),
            same=attributes == EVENT.get_attributes() and event.get_data() == EVENT.get_data(),
        )


main()
