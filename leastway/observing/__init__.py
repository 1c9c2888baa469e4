"""The live collector around its sources: the session that flushes them into the store, its metrics, its recording.

Invariant: nothing here knows a wire format, and nothing here prints; a source is a `collector.live.LiveSource`.
"""
