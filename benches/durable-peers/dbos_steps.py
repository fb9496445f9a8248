"""Ten steps in a row that do nothing, each durable before the next, on DBOS with SQLite; callers are threads of this process.

Usage: dbos_steps.py SECONDS CALLERS...
"""

import json
import sys
import threading
import time

from dbos import DBOS, DBOSConfig

config: DBOSConfig = {"name": "durable-peers", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"}
DBOS(config=config)


@DBOS.step()
def step(value: int) -> int:
    return value


@DBOS.workflow()
def steps(value: int) -> int:
    for _ in range(10):
        value = step(value)
    return value


def measure(callers: int, seconds: float) -> None:
    took: list[float] = []
    lock = threading.Lock()
    began = time.perf_counter()

    def call() -> None:
        mine = []
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            steps(7)
            mine.append(time.perf_counter() - start)
        with lock:
            took.extend(mine)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    took.sort()
    at = lambda part: took[int((len(took) - 1) * part)] * 1e3
    print(json.dumps({"who": "dbos", "callers": callers, "runs_s": round(len(took) / elapsed, 1),
                      "p50_ms": round(at(0.5), 2), "p99_ms": round(at(0.99), 2)}), flush=True)


DBOS.launch()
for callers in sys.argv[2:]:
    measure(int(callers), float(sys.argv[1]))
DBOS.destroy()
