"""The kit's runner, on a Mac: `python3 -m runner check`, then `python3 -m runner run --team YOURTEAMID`.

It needs coremltools 9 and the standard library only. `apple` calls Apple's command-line tools, `cold` has coremltools
take placement and cold samples, `steady` runs the app in `swift/` on the phone, `journal` keeps `results.jsonl`.
"""
