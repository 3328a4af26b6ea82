"""A service that runs for half an hour while its collector comes and goes and it is restarted: nothing may be lost that
nobody counted, and nothing may grow.
"""
