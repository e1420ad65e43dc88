"""The connectors that come with kvroute, one protocol a module.

`kvroute.disagg.registry` finds them by name; nothing imports them before they are asked for.
"""
