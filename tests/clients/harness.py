"""What the tests have in common: the bridge's admin listener, patience, and a count at the end."""

import json
import os
import sys
import time
import traceback
import urllib.request


def admin(method, path):
    request = urllib.request.Request(f"{os.environ['AIBRIDGE_ADMIN']}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read() or b"null")


def expect(error, action):
    try:
        result = action()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}, but {result!r}")


def eventually(what, holds, seconds=10):
    """What `holds` gives, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


def run(suite, cases):
    """Runs named cases and prints what came of them; `suite` begins the line with the count."""
    passed = failed = 0
    for name, case in cases:
        try:
            case()
        except Exception:
            failed += 1
            print(f"FAILED {suite} {name}")
            traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f"ok {suite} {name}", flush=True)
    print(f"{suite}: {passed} passed, {failed} failed")
    return 1 if failed else 0
