"""The page that people look at: Now, Playground, Look up, Quality, Models, Settings. docs/page.md

Before: `gateway.app`, which finds out who asks. After: topics, workers' /metrics, and the API's own operations, which
the page's scripts call as any other client does. `gateway.page` switches it on.
"""
