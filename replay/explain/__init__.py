"""Past answers, made again from the logs and compared byte for byte."""

from replay.explain.answer import Explanation, explain_answer, explain_id, read_answer

__all__ = ["Explanation", "explain_answer", "explain_id", "read_answer"]
