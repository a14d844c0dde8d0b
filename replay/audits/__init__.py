"""Audits: what the logs themselves prove of the answers that went out. Each reads topics, and touches no group."""

from replay.audits.takedown import TakedownAudit, Takedowns, audit_takedown

__all__ = ["TakedownAudit", "Takedowns", "audit_takedown"]
