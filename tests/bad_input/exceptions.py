"""Refusals that no bad input of these tests reaches: why, and which test reaches them instead, if any can."""

#: Message → reason, and a test file with words of it that show that it looks at the refusal.
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "A trial needs {} CPUs and {} GPUs": (
        "Ray sees less than the system and torch do: what they see is refused before",
        "",
    ),
    "Ray did not start within half a minute": (
        "needs a computer that is too busy",
        "tests/study/test_cluster.py: this computer is too busy",
    ),
    "The space's own parts cannot be tried": (
        "needs a part that ends the process it is tried in",
        "tests/end_to_end/test_endings.py: own parts cannot be tried",
    ),
    "a trial needs {} on one node: {}.": (
        "needs a cluster",
        "tests/study/test_nodes.py: on one node",
    ),
    "The node {} cannot run this study's trials: {}.": (
        "needs a cluster",
        "tests/study/test_nodes.py: cannot run this study's trials",
    ),
    "contradicts the record: the study": (
        "needs a study that was begun",
        "tests/study/test_launch.py: contradicts the record",
    ),
    "does not hold its flags": (
        "needs a study of an older version on record",
        "tests/study/test_start.py: does not hold its flags",
    ),
    "cannot be extended: {}.": ("needs a study that was begun", "tests/study/test_looks.py: cannot be extended"),
    "is not finished ({}); go on with it": ("needs a study that was begun", "tests/study/test_looks.py: go on with it"),
    "`--storage-path` must be a bucket that can be read and written": (
        "needs a server that speaks S3",
        "tests/study/test_storage.py: must be a bucket that can be read and written",
    ),
    "storage.py: exists already in {}": (
        "needs a server that speaks S3",
        "tests/study/test_storage.py: exists already in",
    ),
    "`--storage-path {}` cannot be read: {}": (
        "needs a server that speaks S3",
        "tests/study/test_storage.py: access denied",
    ),
    "backup.py: {} cannot be fetched: {}": (
        "needs a server that speaks S3",
        "tests/study/test_backup.py: cannot be fetched",
    ),
    "backup.py: {} must be FILE ADDRESS": (
        "is read from the environment",
        "tests/study/test_backup.py: must be FILE ADDRESS",
    ),
    "is running already, as process": ("needs a study that runs", "tests/study/test_resume.py: is running already"),
    "study/preflight.py: is running already in": (
        "needs a study that runs",
        "tests/study/test_preflight.py: is running already",
    ),
    "The search of the study {} is not in": (
        "needs a study that was begun",
        "tests/study/test_start.py: The search of the study",
    ),
    "cannot simply go on": ("needs a study that was begun", "tests/study/test_start.py: cannot simply go on"),
    "belongs to another study (run": (
        "needs a spool of a study",
        "tests/study/test_record.py: belongs to another study",
    ),
    "MLflow did not take {} of": ("needs a spool of a study", "tests/study/test_record.py: MLflow did not take"),
    "is a spool of version": ("needs a spool of a study", "tests/study/test_spool.py: is a spool of version"),
    "spool.py: {} cannot be read: {}.": ("needs a spool of a study", "tests/study/test_spool.py: cannot be read"),
    "is no spool of a study": ("needs a spool of a study", "tests/study/test_spool.py: is no spool"),
    "is damaged in line": ("needs a spool of a study", "tests/study/test_spool.py: is damaged in line"),
    "lies in a folder that cannot be written.": ("the superuser, as who these tests may run, writes everywhere", ""),
    "`--output` {} cannot be written: {}.": ("the disk fills up after the prediction", ""),
    "folders.py: The folder {} cannot be read": ("the superuser, as who these tests may run, reads everything", ""),
    "must be a number, text, True or False": (
        "a space refuses such a value before",
        "tests/bad_input/test_round_trips.py: must be a number, text",
    ),
    "shows no activation; GELU is timed": (
        "a diagnostic, after the last trial",
        "tests/trainables/test_diagnostics.py: shows no activation",
    ),
    "diagnostics.py: Unknown {} {}; choose from": (
        "a diagnostic, after the last trial",
        "tests/trainables/test_diagnostics.py: unknown_diagnostic_or_arm_is_refused",
    ),
    "Unknown identity {}; choose from": (
        "the exact tests take no input",
        "tests/trainables/test_identities.py: unknown_identity_is_refused",
    ),
    "`schedule` must be one of": (
        "a configuration refuses it before",
        "tests/trainables/test_optimizers.py: `schedule` must be one of",
    ),
    "trainer.py: `watch` takes": (
        "a reported space refuses it before",
        "tests/trainables/test_trainable.py: `watch` takes",
    ),
    "{} where trials are trained as one model": (
        "the driver packs no other trials",
        "tests/trainables/test_replicas.py: where trials are trained as one model",
    ),
    "Trials that are trained as one model must be one or more; got none": (
        "a pack has a trial",
        "tests/trainables/test_replicas.py: must be one or more; got none",
    ),
    "Trials that are trained as one model may differ in {} only": (
        "the driver packs no other trials",
        "tests/trainables/test_replicas.py: may differ in seed and optimizer.learning_rate only",
    ),
}
