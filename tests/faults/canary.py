"""A client in a process of its own that asks every 50 ms and tells at the end how it was answered.

Run as `python -m tests.faults.canary PORT PATH`; headers come as one JSON line on standard input. It stops when
standard input closes, and prints one JSON line: [[status, seconds], ...].
"""

import http.client
import json
import select
import sys
import time

EVERY_S = 0.05
TIMEOUT_S = 10.0


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    headers = json.loads(sys.stdin.readline())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    answers: list[tuple[int, float]] = []
    due = time.monotonic()
    print("started", flush=True)
    while True:
        answers.append(ask(connection, path, headers))
        due = max(due + EVERY_S, time.monotonic())
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            break
    print(json.dumps(answers), flush=True)


def ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> tuple[int, float]:
    """Status, 0 for none, and the seconds that the whole answer took."""
    asked = time.monotonic()
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.monotonic() - asked
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, time.monotonic() - asked


if __name__ == "__main__":
    main()
