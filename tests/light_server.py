"""A server of forked jobs that starts at once."""

from aftershock.jobs.forking import SERVER

LIGHT_SERVER = f"""
import runpy, sys
del sys.path[0]
server = runpy.run_path({str(SERVER)!r})
server["serve_jobs"].__globals__["LIBRARIES"] = {{"light": ("numpy",)}}
server["serve_jobs"](int(sys.argv[1]), "light")
"""
"""The server, which imports next to nothing."""
