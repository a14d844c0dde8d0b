"""What several packages show to people: charts as SVG, what workers' /metrics say, the figures of a moment.

Before: plain numbers, and text of /metrics. After: reports of `replay`, the page of `gateway`, commands of `console`.
"""
