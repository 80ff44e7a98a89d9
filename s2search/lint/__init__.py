"""What is wrong with a table of latencies, row by row: rules with a name, a reason and a remedy.

`lint(path)` in linter.py reads and runs; table_rules.py and card_rules.py judge a `LatencyTable`, csv_rules.py any
CSV file with a column `latency_ms`.
"""
