# Yubico's own client, timed: reads how many signatures to make, a line each time, and
# prints how many nanoseconds each took.
import sys
import time

from yubihsm import YubiHsm
from yubihsm.defs import OBJECT

address, auth, password, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
session = YubiHsm.connect(address).create_session_derived(auth, password)
signer = session.get_object(key, OBJECT.ASYMMETRIC_KEY)
message = bytes(110)
for line in sys.stdin:
    took = []
    for _ in range(int(line)):
        began = time.perf_counter_ns()
        signer.sign_eddsa(message)
        took.append(time.perf_counter_ns() - began)
    print(*took, flush=True)
