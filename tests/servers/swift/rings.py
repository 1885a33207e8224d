"""rings.py DIR OBJECT_PORT CONTAINER_PORT ACCOUNT_PORT: the rings of one device."""
import os
import sys

from swift.common.ring import RingBuilder

os.chdir(sys.argv[1])
for name, port in zip(("object", "container", "account"), sys.argv[2:]):
    ring = RingBuilder(4, 1, 0)
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1",
                  "port": int(port), "device": "disk", "meta": ""})
    ring.rebalance()
    ring.get_ring().save(name + ".ring.gz")
