"""Makes captures: tables of who calls whom → connections → the records that each observation point would write.

Invariant: the same tables and the same seed give the same bytes, on any machine. Nothing here imports the product, so
that an error in a reader cannot hide in the writer of its test data.

The order to read in: `cluster` (what runs where), `tables`, `hubble`, `envoy`, `ztunnel` (one wire format each),
`boutique`, `bookinfo`, `path_ids`, `hostile`, `ambient` (what is special in one story), `random_app`, `bench`.
"""

from tests.simulator.random_app import Application, hubble_records

__all__ = ["Application", "hubble_records"]
