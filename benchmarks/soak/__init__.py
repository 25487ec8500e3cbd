"""Sessions of several models under load for a long time, with faults and cancellations: nothing lost, nothing grows.

`ledger` accounts for every request, `faulty_device` is the example accelerator with faults, `loads` has what runs,
`watching` follows what the process holds.
"""
