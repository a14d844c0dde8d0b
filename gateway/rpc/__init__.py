"""The front door as gRPC: one proto file, the calls that HTTP has, health and reflection. Needs the extra `grpc`.

Before: apps in any language, by code made of `headwater.proto` or by reflection. After: `gateway.calls`.
"""
