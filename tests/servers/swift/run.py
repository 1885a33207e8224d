"""run.py DIR PROGRAM ARGS...: runs one of Swift's programs with DIR/swift.conf, where
Swift itself looks in /etc/swift only."""
import os
import runpy
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import swift.common.utils  # noqa: E402

swift.common.utils.SWIFT_CONF_FILE = os.path.join(sys.argv[1], "swift.conf")
swift.common.utils.HASH_PATH_PREFIX = swift.common.utils.HASH_PATH_SUFFIX = b""
swift.common.utils.validate_configuration()
from swift.common import constraints, storage_policy  # noqa: E402

constraints.reload_constraints()
storage_policy.reload_storage_policies()
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
