"""Ray, started in this process or joined at an address, quiet, and left as it was found."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from analysis.address import redact
from study import nodes
from study.nodes import count_slots
from study.options import Options
from study.process import is_dead, this_process
from trainables.config import InputError

CONNECT_SECONDS = 5.0
LOG_FILE = "study.log"
#: How often Ray is started, and what it says when it was too slow.
STARTS, TOO_SLOW = 3, "timed out during startup"
SESSION_PREFIX = "study-ray-"
#: In Ray's folder of a session: the process it is for.
OWNER_FILE = "owner"

# Read by Ray and MLflow when they are imported or started; a user's own setting wins.
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, JSON and TensorBoard cost time per result; MLflow is the record
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's own state is never read back
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "1000000000",
    "TUNE_MAX_LEN_IDENTIFIER": "100",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # the only workers are the trials' actors
    "RAY_enable_metrics_collection": "0",
    "RAY_DEDUP_LOGS": "0",
    # As long in all as by itself, but a process that asks for its object store a moment too early loses no second.
    "RAY_raylet_client_num_connect_attempts": "200",
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_TQDM_PATCH_PRINT": "0",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # whether to wait for a server is the record's decision, not the client's
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a server's client would print two lines for every trial
    "MLFLOW_CONFIGURE_LOGGING": "0",  # its messages go to the study's log
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

#: As Ray does by itself where a firewall would ask; otherwise anybody on the network may connect to all its servers.
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def prepare_environment(*, alone: bool) -> None:
    """Set what Ray reads at import; call before anything imports it.

    Args:
        alone: Whether Ray is to be started, and not joined: then it listens on the loopback interface only.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if alone:
        os.environ.setdefault(*LOOPBACK)


@contextlib.contextmanager
def connected(options: Options) -> Iterator[int]:
    """Ray while the block runs; yields the number of trials that can run at once.

    Raises:
        InputError: If there is no cluster at the address, or this machine cannot run a single trial.
    """
    import ray  # noqa: PLC0415 - after the environment is prepared

    log_to_file(options)
    temporary = None
    try:
        if options.address is None:
            # A folder of its own: the default one is shared and grows with every session.
            remove_dead_sessions()
            temporary = tempfile.mkdtemp(prefix=SESSION_PREFIX)
            (Path(temporary) / OWNER_FILE).write_text(this_process(), encoding="utf-8")
            _start(temporary)
        else:
            check_reachable(options.address)
            try:
                ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(f"`--address {options.address}`: {_why_not(error)}") from error
        with _terminated_is_interrupted():
            yield count_slots(options, nodes.alive())
    finally:
        disconnect()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def disconnect() -> None:
    """End Ray, or leave the cluster; nothing the second time.

    Called by the thread that has used Ray. Another may go on, since no garbage is looked for meanwhile: what it would
    free of Ray's then ends the whole process.
    """
    import ray  # noqa: PLC0415 - after the environment is prepared

    collecting = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


def _start(folder: str) -> None:
    """Start Ray, again if it was too slow: it gives its processes half a minute, which a busy computer may not have.

    Raises:
        InputError: If it was too slow each time.
    """
    import ray  # noqa: PLC0415 - after the environment is prepared

    for _ in range(STARTS):
        try:
            ray.init(
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=folder,
            )
        except Exception as error:
            if TOO_SLOW not in str(error):
                raise
            logging.getLogger(__name__).warning("Ray did not start: %s", error)
            _end_what_started(error)
        else:
            return
    raise InputError(f"Ray did not start within half a minute, {STARTS} times; this computer is too busy.")


def _end_what_started(error: Exception) -> None:
    """End the processes of a start that failed; Ray itself would do so when this process ends."""
    from ray._private.node import Node  # noqa: PLC0415

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(node := frame.f_locals.get("self"), Node):
            node.kill_all_processes(check_alive=False)
            return


def remove_dead_sessions() -> None:
    """Take away what Ray left for studies whose process was killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{SESSION_PREFIX}*/{OWNER_FILE}"):
        with contextlib.suppress(OSError):
            if is_dead(owner.read_text(encoding="utf-8")):
                shutil.rmtree(owner.parent, ignore_errors=True)


@contextlib.contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM, as from a scheduler that wants the machine back, ends the study as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    # A script's command in the background ignores Ctrl-C, which is not for it; SIGTERM is.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _why_not(error: Exception) -> str:
    # Ray hides the reason in the text of the errors behind the one it raises.
    if "InvalidAuthToken" in "".join(traceback.format_exception(error)):
        return "the Ray cluster wants its token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or ~/.ray/auth_token)."
    return "no Ray cluster answers there."


def check_reachable(address: str) -> None:
    """Something listens at ``host:port``; Ray itself would try for minutes.

    Raises:
        InputError: If nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and the like are Ray's to look up
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:  # also a port or a host that is none
        raise InputError(f"`--address {address}`: no Ray cluster answers there.") from error


class _Log(logging.FileHandler):
    """A log that cannot be opened, as on a full disk, costs nobody more than the log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


class Redacting(logging.Formatter):
    """Messages of Ray, MLflow and Optuna, tracebacks too, without the passwords of the addresses in them."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def log_to_file(options: Options) -> None:
    """Ray's and our own messages, tracebacks of failed trials among them, go to the study's log."""
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, is not the user's to read
    handler = _Log(options.folder / LOG_FILE, encoding="utf-8", delay=True)
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("ray", "study", "mlflow", "alembic", "optuna"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
