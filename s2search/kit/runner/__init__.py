"""The kit's runner, on a Mac: `python3 -m runner check`, then `python3 -m runner run --team YOURTEAMID`.

It needs coremltools 9 and the standard library only. `apple` calls Apple's command-line tools, `cold` has coremltools
take placement and cold samples, `steady` runs the app in `swift/` on the phone, `journal` keeps `results.jsonl`.
"""

import sys

if __name__ == "runner":  # on a Mac; on a full disk Python would leave torn bytecode, and read it the next time
    sys.dont_write_bytecode = True
