"""Bundle and input to answer: the device's client, the cloud's service, and what crosses between.

    EdgeClient ── frame ──► Transport ── frame ──► CloudService
               ◄─ reply ──           ◄─ reply ──

Both sides hold the same bundle, so a frame carries symbols and no tables, and a reply carries
numbers and no names.
"""
