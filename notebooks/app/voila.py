"""How Voilà serves app.ipynb (`make app`): its own template, nothing from outside, no kernel left."""

import os
from pathlib import Path

c = get_config()  # noqa: F821 (Voilà gives it)

# The template lies beside this file: voila/templates/kdutils.
paths = [str(Path(__file__).resolve().parent), os.environ.get("JUPYTER_PATH", "")]
os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, paths))
c.VoilaConfiguration.template = "kdutils"

# One page is ready before anybody asks: 3 seconds to the first figure instead of 20.
c.VoilaConfiguration.preheat_kernel = True
c.VoilaConfiguration.default_pool_size = 1

# A page that is closed says so, and its kernel ends. Without this the server refuses to hear it from
# a browser that has no _xsrf cookie (voila issue 1458). Whoever would misuse it needs the kernel's
# id, and the page listens to this machine only, unless told otherwise.
c.Voila.tornado_settings = {"disable_check_xsrf": True}
# A browser that was killed says nothing: after 5 minutes without a connection the kernel ends.
c.MappingKernelManager.cull_idle_timeout = 300
c.MappingKernelManager.cull_interval = 10
