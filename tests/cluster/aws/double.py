"""EC2, IAM and S3, answered by moto on the laptop: ``python -m tests.cluster.aws.double REGION IMAGE``.

Prints a line of JSON whenever an instance comes or goes, which whoever owns the machines makes true; an instance named
to it in a line is taken back. Its zones are a, b and c, and c has no GPU to give: Ray asks there first.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

ADDRESS, PORT = "10.77.0.1", 5555
NETWORK = "10.77.0.0/16"
SUBNETS = {"a": "10.77.16.0/20", "b": "10.77.32.0/20", "c": "10.77.48.0/20"}
ACCOUNT = "123456789012"
FIRST = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


def prepare_moto(image: str) -> None:
    """Before moto is imported: it refuses what EC2 would, and knows one image."""
    images = Path.home() / "images.json"
    known = {"ami_id": image, "name": "with a driver", "owner_id": "898082745236", "architecture": "x86_64"}
    images.write_text(json.dumps([{**known, "public": True, "state": "available"}]), encoding="utf-8")
    os.environ.update(FIRST, MOTO_AMIS_PATH=str(images))
    for name in ("EC2_ENABLE_INSTANCE_TYPE", "ENABLE_AMI", "ENABLE_KEYPAIR"):
        os.environ[f"MOTO_{name}_VALIDATION"] = "true"


def patch_moto() -> None:
    """What moto makes up would be somebody's address; what it always has, spot GPUs, EC2 has not."""
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models.elastic_network_interfaces import NetworkInterface
    from moto.ec2.models.instances import InstanceBackend

    def public_is_private(self: NetworkInterface) -> None:
        self.public_ip = self.private_ip_address

    launch = InstanceBackend.run_instances

    def launch_if_there_is_one(self: InstanceBackend, *arguments: object, **options: object) -> object:
        subnet = self.get_subnet(options["subnet_id"])
        if str(options["instance_type"]).startswith("g") and subnet.availability_zone.endswith("c"):
            raise EC2ClientError("InsufficientInstanceCapacity", "There is no Spot capacity available.")
        return launch(self, *arguments, **options)

    NetworkInterface.check_auto_public_ip = public_is_private
    InstanceBackend.run_instances = launch_if_there_is_one


def make_network(region: str) -> None:
    """One network with a subnet per zone, in place of those that every account begins with."""
    import boto3

    ec2 = boto3.client("ec2", region_name=region, endpoint_url=f"http://{ADDRESS}:{PORT}")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    network = ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    for zone, block in SUBNETS.items():
        made = ec2.create_subnet(VpcId=network, CidrBlock=block, AvailabilityZone=f"{region}{zone}")
        ec2.modify_subnet_attribute(SubnetId=made["Subnet"]["SubnetId"], MapPublicIpOnLaunch={"Value": True})


def tell(region: str) -> None:
    """Every change, until the end of time."""
    from moto.backends import get_backend

    ec2, told = get_backend("ec2")[ACCOUNT][region], None
    while True:
        keys = {key.key_name: key.public_key for key in list(ec2.key_pairs.values())}
        instances = {
            instance.id: {
                "address": instance.private_ip,
                "running": instance.state == "running",
                "key": keys[instance.key_name],
            }
            for reservation in list(ec2.reservations.values())
            for instance in list(reservation.instances)
        }
        if instances != told:
            told = instances
            print(json.dumps(told), flush=True)  # noqa: T201 - this is how it tells
        time.sleep(0.1)


def obey(region: str) -> None:
    """AWS takes instances back: at once, since what is to be hit moves on."""
    from moto.backends import get_backend

    for line in sys.stdin:
        get_backend("ec2")[ACCOUNT][region].terminate_instances([line.strip()])


def main() -> None:
    region, image = sys.argv[1:]
    prepare_moto(image)
    from moto.server import ThreadedMotoServer

    patch_moto()
    ThreadedMotoServer(ip_address=ADDRESS, port=PORT, verbose=False).start()
    make_network(region)
    threading.Thread(target=obey, args=[region], daemon=True).start()
    tell(region)


if __name__ == "__main__":
    main()
