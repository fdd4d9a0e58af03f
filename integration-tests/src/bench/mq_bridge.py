import json
import sys

from mq_bridge import Route

with open(sys.argv[1]) as file:
    route = Route.from_config(json.load(file))
route.start()
print("started", flush=True)
route.join()
