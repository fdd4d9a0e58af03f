"""What the foreign clients share: JSON lines in and out, payloads as base64.

A publisher reads one message a line from its standard input and prints one line for each once the
peer has confirmed it: {"ok": true} or {"ok": false, "error": ...}.
A consumer prints {"ready": true} once it is subscribed, then one line for each message.
"""

import base64
import json
import sys


def emit(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def ready():
    emit(ready=True)


def decode(text):
    return base64.b64decode(text) if text is not None else None


def encode(data):
    return base64.b64encode(data).decode("ascii") if data is not None else None


def messages():
    """The messages to publish: dictionaries whose payload is bytes."""
    for line in sys.stdin:
        if line.strip():
            message = json.loads(line)
            message["payload"] = decode(message.get("payload", ""))
            yield message


def jsonable(value):
    """A header's value in JSON: bytes become {"base64": ...}, times become {"timestamp": ...}."""
    if isinstance(value, (bytes, bytearray)):
        return {"base64": encode(bytes(value))}
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "timestamp"):
        return {"timestamp": int(value.timestamp())}
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
