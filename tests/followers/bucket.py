"""A bucket of a server that speaks S3: bucket.py ADDRESS make NAME [locked] | bucket.py ADDRESS show NAME LOG.

`show` prints a JSON array of the objects in the order of their names: name, text, mode and time of its lock, number of
its versions, what the server says to whoever deletes it, and whether the request that made it, as LOG (what the server
logged) has it, was signed as botocore signs: the server does not look.
"""

import base64
import datetime
import hashlib
import json
import os
import re
import sys
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError


def is_signed(request, address, text, object):
    """Signs the same request at the same time."""
    query = parse_qs(urlsplit(request).query)
    when = datetime.datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    headers = {
        "content-type": object["ContentType"],
        "if-none-match": "*",
        "x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(text).digest()).decode(),
        "x-amz-object-lock-mode": object["ObjectLockMode"],
        "x-amz-object-lock-retain-until-date": object["ObjectLockRetainUntilDate"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-amz-sdk-checksum-algorithm": "SHA256",
    }
    theirs = AWSRequest("PUT", address + urlsplit(request).path, headers=headers)
    credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    with mock.patch("botocore.auth.get_current_datetime", lambda: when):
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", int(query["X-Amz-Expires"][0])).add_auth(theirs)
    return parse_qs(urlsplit(theirs.url).query)["X-Amz-Signature"] == query["X-Amz-Signature"]


address, verb, name = sys.argv[1:4]
s3 = boto3.client("s3", endpoint_url=address, region_name="us-east-1")

if verb == "make":
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket="locked" in sys.argv[4:])
    sys.exit()
with open(sys.argv[4]) as log:
    requests = re.findall(r"PUT (\S+\.jsonl\?\S+) HTTP/1.1\S* 200", log.read())
requests = {urlsplit(request).path.split("/")[-1]: request for request in requests}
objects = []
versions = s3.list_object_versions(Bucket=name).get("Versions", [])
for version in sorted(versions, key=lambda version: version["Key"]):
    key, number = version["Key"], version["VersionId"]
    object = s3.get_object(Bucket=name, Key=key, VersionId=number)
    try:
        s3.delete_object(Bucket=name, Key=key, VersionId=number)
        deleted = "yes"
    except ClientError as error:
        deleted = error.response["Error"]["Code"]
    text = object["Body"].read()
    objects.append({
        "name": key,
        "text": text.decode(),
        "signed": is_signed(requests[key.split("/")[-1]], address, text, object),
        "mode": object.get("ObjectLockMode"),
        "until": str(object.get("ObjectLockRetainUntilDate")),
        "versions": sum(other["Key"] == key for other in versions),
        "deleted": deleted,
    })
print(json.dumps(objects))
