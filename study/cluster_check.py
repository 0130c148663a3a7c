"""``python -m study.cluster_check cluster.yaml``: a mistake in a cluster's file costs a line, not a paid hour.

Ray looks at such a file too, at `ray up`; what is here is what it lets through, and what it says in fifty lines.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.plain import plain
from trainables.config import InputError

DESCRIPTION = """\
Looks for mistakes in a file that `ray up` reads: names, types, counts, files to copy, what EC2 accepts.

Of AWS it asks, where there are credentials: does the region have the image, the instance types and their GPUs, do
the bucket and the machines' profiles exist? It only reads, starts nothing and costs nothing.
"""
EPILOG = """\
exit codes: 0 no mistake found, 2 mistakes (one line each)
"""
#: What `provider` may hold; Ray's own schema lets every word through there.
PROVIDER_KEYS = {
    "aws": {
        "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "use_external_head_ip",
        "security_group", "key_pair", "aws_credentials", "cloudwatch", "disable_node_updaters",
        "disable_launch_config_check", "worker_rpc_drain", "worker_liveness_check", "foreground_node_launch",
    },
    "gcp": {
        "type", "region", "availability_zone", "project_id", "cache_stopped_nodes", "use_internal_ips",
        "gcp_credentials", "disable_node_updaters", "disable_launch_config_check",
    },
    "local": {"type", "head_ip", "worker_ips", "external_head_ip", "coordinator_address", "cache_stopped_nodes"},
}  # fmt: skip
#: How what the user must fill in begins.
UNSAID = "your-"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What a cluster's file holds, and its mistakes, as far as they can be seen without a cloud.

    Args:
        path: The file. What it copies is looked for in the working directory, as by `ray up`.

    Returns:
        The file's content, empty if it cannot be read, and one line per mistake.
    """
    import yaml  # noqa: PLC0415 - comes with Ray

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})."]
    except yaml.YAMLError as error:
        return {}, [f"is not YAML: {' '.join(str(error).split())}."]
    if not isinstance(config, dict):
        return {}, ["must hold keys and values."]
    mistakes = list(_against_schema(config))
    if not mistakes:  # from here on everything has its type
        mistakes = [*_of_provider(config), *_of_nodes(config), *_of_commands(config), *_of_files(config)]
    if not mistakes and config["provider"]["type"] == "aws":
        if importlib.util.find_spec("boto3") is None:
            return config, ["is for AWS, which needs boto3: pip install '.[cluster]'."]
        from study.cluster_aws import check_aws  # noqa: PLC0415 - reads EC2's description, half a second

        mistakes = list(check_aws(config))
    return config, mistakes


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The known word that is nearest, as the end of a sentence."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _against_schema(config: dict[str, Any]) -> Iterator[str]:
    import jsonschema  # noqa: PLC0415 - comes with Ray

    # Found without importing Ray, which takes a second.
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        where = ".".join(map(str, error.absolute_path))
        if error.validator == "additionalProperties":
            known = [*error.schema.get("properties", ()), *error.schema.get("patternProperties", {})]
            known += [key for pattern in error.schema.get("patternProperties", {}).values() for key in pattern]
            for key in sorted(set(error.instance) - set(known)):
                yield f"`{_join(where, key)}` is not an option{did_you_mean(str(key), known)}"
        elif error.validator == "required":
            yield f"`{where or 'the file'}`: {error.message}."
        else:
            yield f"`{where}`: {error.message}."


def _of_provider(config: Mapping[str, Any]) -> Iterator[str]:
    provider = config["provider"]
    known = PROVIDER_KEYS.get(provider["type"])
    if known is None:
        yield f"`provider.type` must be one of {', '.join(PROVIDER_KEYS)}; got {provider['type']!r}."
        return
    for key in sorted(set(provider) - known):
        yield f"`provider.{key}` is not an option{did_you_mean(str(key), sorted(known))}"
    for group in ("metadata", "provider"):
        for key, given in config.get(group, {}).items():
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, str) and value.startswith(UNSAID):
                    yield f"`{group}.{key}` must be said by you; got {value!r}."
    bucket = config.get("metadata", {}).get("bucket")
    if bucket is not None and not (isinstance(bucket, str) and BUCKET.fullmatch(bucket)):
        yield f"`metadata.bucket` must be the name of a bucket, without s3:// and folders; got {bucket!r}."


def _of_nodes(config: Mapping[str, Any]) -> Iterator[str]:
    types = config.get("available_node_types", {})
    if not types:
        return
    if config.get("head_node_type") not in types:
        yield f"`head_node_type` must be one of {', '.join(types)}; got {config.get('head_node_type')!r}."
    most = config.get("max_workers")
    least = sum(node.get("min_workers", 0) for node in types.values())
    if most is not None and least > most:
        yield f"`max_workers` must be at least the sum of `min_workers`, {least}; got {most}."
    for name, node in types.items():
        lowest, highest = node.get("min_workers", 0), node.get("max_workers", most)
        if highest is not None and lowest > highest:
            yield f"`available_node_types.{name}`: `min_workers`, {lowest}, must be at most `max_workers`, {highest}."


def _of_commands(config: Mapping[str, Any]) -> Iterator[str]:
    """What the head's start needs; without it nothing fails, and no worker ever comes."""
    starts = [command for command in config.get("head_start_ray_commands", ()) if "ray start" in command]
    if config["provider"]["type"] != "local" and not config.get("setup_commands"):
        yield "`setup_commands` must install what a node needs: without any, Ray installs another version of itself."
    for command in starts:
        if "--autoscaling-config" not in command:
            yield "`head_start_ray_commands`: the head needs `--autoscaling-config=~/ray_bootstrap_config.yaml`."
        if "--dashboard-host=127.0.0.1" not in command:
            yield "`head_start_ray_commands`: the dashboard has no login; it needs `--dashboard-host=127.0.0.1`."
    if not starts:
        yield "`head_start_ray_commands` must start Ray: `ray start --head --autoscaling-config=…`."


def _of_files(config: Mapping[str, Any]) -> Iterator[str]:
    for remote, local in config.get("file_mounts", {}).items():
        if not Path(str(local)).expanduser().exists():
            yield f"`file_mounts.{remote}`: there is no {local} in {Path.cwd()}."
    key = config.get("auth", {}).get("ssh_private_key")
    if key is not None and not Path(key).expanduser().exists():
        yield f"`auth.ssh_private_key`: there is no {key}."


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def read_command(program: str, description: str, epilog: str, argv: list[str] | None) -> Path:
    """The file that a command on a cluster's file was given.

    Raises:
        InputError: If the command line is none.
    """
    parser = OneLineParser(
        prog=f"python -m {program}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="such as cluster.yaml")
    argv = sys.argv[1:] if argv is None else argv
    check_text(argv)
    file: Path = parser.parse_args(argv).file
    return file


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    try:
        path = read_command("study.cluster_check", DESCRIPTION, EPILOG, argv)
    except InputError as error:
        print(f"study.cluster_check: {refusal(error)}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    config, mistakes = check_file(path)
    said = "Ray and EC2 are given words they know"
    if not mistakes:
        mistakes, said = _ask(config)
    for mistake in mistakes:
        print(plain(f"{path}: {mistake}"), file=sys.stderr)  # noqa: T201 - the messages
    if mistakes:
        return 2
    print(plain(f"{path}: no mistake found; {said}."))  # noqa: T201 - the message
    return 0


def _ask(config: dict[str, Any]) -> tuple[list[str], str]:
    """What a cloud objects to, and who was asked."""
    if config["provider"]["type"] != "aws":
        return [], "its cloud or machines were not asked"
    from study.cluster_aws import NobodyAskedError, ask_aws  # noqa: PLC0415 - boto3, half a second

    try:
        return list(ask_aws(config)), "AWS has its image, instance types, profiles and bucket"
    except NobodyAskedError as error:
        return [], f"AWS was not asked: {error}"


if __name__ == "__main__":
    leave(main())
