"""`python health.py URL`: the exit status is 0 if that answers well. HEALTHCHECK without curl."""

from __future__ import annotations

import sys
import urllib.request

SECONDS = 5.0
#: A proxy named in the environment has no business here.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> int:
    try:
        http.open(sys.argv[1], timeout=SECONDS).close()
    except OSError as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
