"""Where gates stand: see ``graphprune.gate_sites``, which needs no torch."""

from __future__ import annotations

from ..gate_sites import OUTPUT, Factor, Site, Where, sites_of

__all__ = ["OUTPUT", "Factor", "Site", "Where", "sites_of"]
