"""Load a REST service at a rate of its own, whatever the service does (an open loop).

    request ─ arrivals ─┐
                        ├─ plan ─ workers ─ (generator ─ pool ─ connection) ─ recorder ─ results
    first_request ──────┘

``request`` makes the bytes that are sent and ``arrivals`` the times, before anything runs.
Each worker is a process that sends what is due and counts what comes back; each second it
hands its counts over, and ``results`` adds them up.
"""
