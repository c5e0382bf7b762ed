# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage URLs of every kind: what they mean, and that no hostile one does harm or tells a secret."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_unit, _centers, _storage
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._storage import _url
from ansible_collections.modelfleet.kvm.tests.unit import properties as p
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER

# URLs as people write them, and their normal forms.
GOOD = {
    "nfs://filer-7.lab/vol/ai": "nfs://filer-7.lab/vol/ai",
    "NFS://filer-7.lab:20490//vol/ai/?vers=4.1": "nfs://filer-7.lab:20490/vol/ai?vers=4.1",
    "nfs://[2001:db8::7]:2049/vol": "nfs://[2001:db8::7]:2049/vol",
    "glusterfs://g1,g2,g3/depot/sub": "glusterfs://g1,g2,g3/depot/sub",
    "ceph://reader@mon1:6789,mon2/shelf/depot": "ceph://reader@mon1:6789,mon2/shelf/depot",
    "smb://LAB;svc@nas/depot": "smb://LAB%3Bsvc@nas/depot",
    "sftp://svc@store:2222/data/depot": "sftp://svc@store:2222/data/depot",
    "davs://svc@store/dav": "davs://svc@store/dav",
    "s3://depot-a/pub?region=eu-1&endpoint=http://127.0.0.1:9000": (
        "s3://depot-a/pub?endpoint=http://127.0.0.1:9000&region=eu-1"
    ),
    "juicefs+redis://svc@meta:6380/3?volume=depot-a&subdir=/pub": (
        "juicefs+redis://svc@meta:6380/3?subdir=/pub&volume=depot-a"
    ),
    "juicefs+redis://shelfMaster,s1,s2:26379/3": "juicefs+redis://shelfMaster,s1,s2:26379/3",
    "juicefs+sqlite3:///data/meta.db": "juicefs+sqlite3:///data/meta.db",
    "image:///data/depot.squashfs": "image:///data/depot.squashfs",
    "image:///data/depot.img?fstype=erofs": "image:///data/depot.img?fstype=erofs",
    "block:///dev/disk/by-uuid/ab-cd?fstype=xfs": "block:///dev/disk/by-uuid/ab-cd?fstype=xfs",
    "existing:///mnt/weka?fstype=wekafs": "existing:///mnt/weka?fstype=wekafs",
    "generic://lustre?device=10.9.0.1@tcp:/scratch": "generic://lustre/?device=10.9.0.1@tcp:/scratch",
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_has_a_normal_form(url):
    assert _storage.check(url) == GOOD[url]
    assert _storage.check(GOOD[url]) == GOOD[url]


BAD = [
    "nfs:///vol",
    "nfs://a,b/vol",
    "nfs://svc@filer/vol",
    "nfs://filer:0/vol",
    "nfs://filer:70000/vol",
    "nfs://-o/vol",
    "nfs://filer/a,b",
    "nfs://filer/a%2Cb",
    "nfs://filer/vol?vers=5",
    "nfs://filer/vol?soft=1",
    "nfs://filer/vol#x",
    "nfs://fi%6Cer/vol",
    "glusterfs://g1",
    "glusterfs://g1:24007/vol",
    "ceph://mon",
    "smb://nas",
    "sftp://store/data",
    "s3:///prefix",
    "s3://Depot",
    "s3://depot:9000",
    "s3://depot?endpoint=file:///etc/shadow",
    "s3://depot?endpoint=http://a,url=b",
    "juicefs://meta/1",
    "juicefs+fdb://meta/1",
    "juicefs+redis:///1",
    "juicefs+sqlite3://host/data/meta.db",
    "juicefs+redis://meta/1?volume=a,b",
    "image:///data/depot.img",
    "image:///data/depot.img?fstype=nfs",
    "image:///etc/x.squashfs",
    "block:///data/disk?fstype=xfs",
    "block:///dev/vdb",
    "existing://host/mnt/x",
    "existing:///etc",
    "generic://lustre",
    "generic://lustre?device=-orw",
    "generic://lus tre?device=x",
]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(ModelfleetError) as caught:
        _storage.check(url)
    assert caught.value.code == "invalid_input"


SECRETS = [
    "nfs://svc:hunter2@filer/vol",
    "nfs://svc%3Ahunter2@filer/vol",
    "s3://AKIA:hunter2@depot",
    "s3://depot?secret_key=hunter2",
    "s3://depot?X-Amz-Security-Token=hunter2",
    "s3://depot?accesskey=hunter2",
    "juicefs+redis://:hunter2@meta/1",
    "juicefs+redis://:hun/ter2@meta/1",
    "juicefs+mysql://svc:hunter2@meta:3306/db",
    "juicefs+postgres://meta/db?password=hunter2",
    "smb://nas/depot?pw=hunter2",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_a_url_is_refused_and_not_told(url):
    with pytest.raises(ModelfleetError) as caught:
        _storage.check(url)
    assert caught.value.code == "invalid_input"
    assert "ter2" not in caught.value.msg + str(caught.value.details)


@pytest.mark.parametrize("url", [url for url in SECRETS if "/ter2" not in url])
def test_the_refusal_of_a_secret_names_the_option_for_it(url):
    with pytest.raises(ModelfleetError) as caught:
        _storage.check(url)
    assert "option credentials" in caught.value.msg


# What systemd is told, by URL and changes of the center: the unit, and the words in it.
DEFINED = {
    "nfs": (
        "nfs://filer:20490/vol/ai",
        {"options": ("nconnect=16", "soft")},
        ("filer:/vol/ai", "nfs"),
        (
            "ro,nosuid,nodev,noatime,vers=4.2,proto=tcp,soft,nconnect=16,rsize=1048576,timeo=600,retrans=2,noresvport,nocto,"
            "actimeo=600,retry=0,port=20490"
        ),
    ),
    "gluster": (
        "glusterfs://g1,g2,g3/depot",
        {"options": ("entry-timeout=default",)},
        ("g1:/depot", "glusterfs"),
        "ro,nosuid,nodev,attribute-timeout=600,backup-volfile-servers=g2:g3",
    ),
    "ceph": (
        "ceph://reader@mon1:6789,mon2/shelf/depot",
        {"credentials": ("cephx_key",)},
        ("mon1:6789,mon2:/depot", "ceph"),
        (
            "ro,nosuid,nodev,noatime,name=reader,fs=shelf,secretfile=/etc/modelfleet/centers/depot/secret,"
            "recover_session=clean,mount_timeout=30,rasize=67108864"
        ),
    ),
    "smb": (
        "smb://LAB;svc@nas/depot",
        {"credentials": ("password",), "read_only": False},
        ("//nas/depot", "cifs"),
        (
            "rw,nosuid,nodev,noatime,credentials=/etc/modelfleet/centers/depot/login,vers=3.1.1,cache=loose,actimeo=600,"
            "echo_interval=10,rsize=4194304"
        ),
    ),
    "image": ("image:///data/a b.erofs", {}, ("/data/a b.erofs", "erofs"), "loop,ro,nosuid,nodev,noatime"),
    "block": ("block:///dev/vdb?fstype=xfs", {}, ("/dev/vdb", "xfs"), "ro,nosuid,nodev,noatime"),
    "lustre": (
        "generic://lustre?device=10.9.0.1@tcp:/scratch",
        {"options": ("flock",)},
        ("10.9.0.1@tcp:/scratch", "lustre"),
        "ro,nosuid,nodev,flock",
    ),
}


def center(url, **changes):
    made = dataclasses.replace(CENTER, storage_url=_storage.check(url), **changes)
    _storage.check_center(made)
    return made


@pytest.mark.parametrize("case", DEFINED)
def test_how_a_url_is_mounted_by_mount(case):
    url, changes, what, options = DEFINED[case]
    found = _storage.definition(center(url, **changes))
    assert ((found.what, found.fstype), ",".join(found.options)) == (what, options)
    assert found.command == ()


COMMANDS = {
    "rclone": (
        "s3://depot-a/pub?endpoint=http://127.0.0.1:9000",
        {"verify_path": "x", "cache_dir": "/cache", "cache_size": 20, "credentials": ("access_key", "secret_key")},
        (
            "rclone mount center:depot-a/pub /mnt/depot --config=/etc/modelfleet/centers/depot/config"
            " --devname=s3://depot-a/pub --allow-other --dir-cache-time=1h --attr-timeout=1h --contimeout=10s"
            " --timeout=30s --low-level-retries=3 --buffer-size=64M --vfs-read-chunk-size=64M --read-only"
            " --vfs-cache-mode=full --cache-dir=/cache/depot --vfs-cache-max-size=20M"
        ),
    ),
    "s3fs": (
        "s3://depot-a/pub?endpoint=http://127.0.0.1:9000",
        {"verify_path": "x", "client": "s3fs", "credentials": ("access_key", "secret_key"), "options": ("retries=5",)},
        (
            "s3fs depot-a:/pub /mnt/depot -f -o ro,nosuid,nodev,fsname=s3://depot-a/pub,allow_other,retries=5,"
            "connect_timeout=10,readwrite_timeout=30,stat_cache_expire=3600,enable_noobj_cache,multireq_max=20,"
            "url=http://127.0.0.1:9000,use_path_request_style,passwd_file=/etc/modelfleet/centers/depot/keys"
        ),
    ),
    "davs": (
        "davs://svc@store/dav",
        {"verify_path": "x", "credentials": ("password",)},
        (
            "rclone mount center: /mnt/depot --config=/etc/modelfleet/centers/depot/config --devname=davs://store/dav"
            " --allow-other --dir-cache-time=1h --attr-timeout=1h --contimeout=10s --timeout=30s --low-level-retries=3"
            " --buffer-size=64M --vfs-read-chunk-size=64M --read-only --vfs-cache-mode=off"
        ),
    ),
    "sshfs": (
        "sftp://svc@store:2222/data/depot",
        {"credentials": ("private_key",)},
        (
            "sshfs -f svc@store:/data/depot /mnt/depot -o ro,nosuid,nodev,fsname=svc@store:/data/depot,reconnect,"
            "ServerAliveInterval=5,ServerAliveCountMax=3,StrictHostKeyChecking=yes,BatchMode=yes,ConnectTimeout=15,"
            "allow_other,default_permissions,kernel_cache,dcache_timeout=3600,"
            "IdentityFile=/etc/modelfleet/centers/depot/key,IdentitiesOnly=yes,port=2222"
        ),
    ),
    "ceph-fuse": (
        "ceph://mon1,mon2/shelf",
        {"client": "fuse", "verify_path": "x", "options": ("client-oc-size=1G",)},
        (
            "ceph-fuse -f -m mon1,mon2 --id=admin --client_fs=shelf --client_mountpoint=/ --client_mount_timeout=30"
            " --client-oc-size=1G -o ro,nosuid,nodev /mnt/depot"
        ),
    ),
    "juicefs": (
        "juicefs+mysql://svc@meta:3306/jfs?volume=depot-a&subdir=/pub",
        {"credentials": ("meta_password",), "helper": "zdfs", "options": ("prefetch=0",)},
        (
            "zdfs mount --no-usage-report --no-syslog --open-cache=3600 --attr-cache=3600 --entry-cache=3600"
            " --dir-entry-cache=3600 --backup-meta=0 --buffer-size=1024 --cache-dir=memory --cache-size=1024"
            " --subdir=/pub --prefetch=0 -o ro,nosuid,nodev mysql://svc@(meta:3306)/jfs /mnt/depot"
        ),
    ),
    "juicefs sqlite": (
        "juicefs+sqlite3:///data/meta.db",
        {"cache_dir": "/cache"},
        (
            "juicefs mount --no-usage-report --no-syslog --open-cache=3600 --attr-cache=3600 --entry-cache=3600"
            " --dir-entry-cache=3600 --backup-meta=0 --buffer-size=1024 --cache-dir=/cache -o ro,nosuid,nodev"
            " sqlite3:///data/meta.db /mnt/depot"
        ),
    ),
}


@pytest.mark.parametrize("client", ["rclone", "s3fs"])
def test_centers_do_not_share_a_cache(client):
    changes = {"verify_path": "x", "client": client, "cache_dir": "/cache"}
    depot, annex = (_storage.definition(center("s3://depot-a", name=name, **changes)) for name in ("depot", "annex"))
    assert (depot.cache, annex.cache) == ("/cache/depot", "/cache/annex")
    for found in (depot, annex):
        words = " ".join(found.command)
        assert f"{'use_cache' if client == 's3fs' else '--cache-dir'}={found.cache}" in words
        assert "=/cache " not in f"{words} ".replace(",", " ")


@pytest.mark.parametrize("case", COMMANDS)
def test_how_a_url_is_mounted_by_a_client(case):
    url, changes, command = COMMANDS[case]
    found = _storage.definition(center(url, **changes))
    assert " ".join(found.command) == command
    assert found.needs and not found.what


def secrets(url, given, **changes):
    made = center(url, credentials=tuple(sorted(given)), **changes)
    return _storage.secrets(made, _storage.check_secrets(made.storage_url, given))


KEYS = {"access_key": "AKIA7", "secret_key": "hunter2"}
FUSE = {"client": "fuse", "verify_path": "x"}
FILES = {
    "keys of s3fs": ("s3://depot-a", KEYS, {"client": "s3fs", "verify_path": "x"}, "keys", "AKIA7:hunter2\n"),
    "configuration of rclone": (
        "s3://depot-a?region=eu-1",
        KEYS,
        {"verify_path": "x"},
        "config",
        "[center]\ntype = s3\nprovider = AWS\nregion = eu-1\naccess_key_id = AKIA7\nsecret_access_key = hunter2\n",
    ),
    "configuration of rclone without secrets": (
        "s3://depot-a",
        {},
        {"verify_path": "x"},
        "config",
        "[center]\ntype = s3\nprovider = AWS\nenv_auth = true\n",
    ),
    "headers of WebDAV": (
        "davs://svc@store:8443/dav",
        {"password": "hunter2"},
        {"verify_path": "x"},
        "config",
        (
            "[center]\ntype = webdav\nurl = https://store:8443/dav\nvendor = other\n"
            'headers = "Authorization","Basic c3ZjOmh1bnRlcjI="\n'
        ),
    ),
    "key of Ceph": ("ceph://reader@mon/shelf", {"cephx_key": "AQ=="}, {}, "secret", "AQ==\n"),
    "keyring of ceph-fuse": (
        "ceph://reader@mon/shelf",
        {"cephx_key": "AQ=="},
        {"client": "fuse", "verify_path": "x"},
        "keyring",
        "[client.reader]\n\tkey = AQ==\n",
    ),
    "login of SMB": (
        "smb://LAB;svc@nas/depot",
        {"password": "hunter2"},
        {},
        "login",
        "username=svc\npassword=hunter2\ndomain=LAB\n",
    ),
    "hosts of SFTP": (
        "sftp://svc@store/x",
        {"known_hosts": "store ssh-ed25519 AAAA\nstore ssh-rsa AAAB"},
        {},
        "hosts",
        "store ssh-ed25519 AAAA\nstore ssh-rsa AAAB\n",
    ),
    "key of SFTP": ("sftp://svc@store/x", {"private_key": "a\nb"}, {}, "key", "a\nb\n"),
    "environment of JuiceFS": (
        "juicefs+redis://meta/1",
        {"meta_password": 'hun"$ter\\2'},
        {},
        "environment",
        'META_PASSWORD="hun\\"\\$ter\\\\2"\nREDIS_PASSWORD="hun\\"\\$ter\\\\2"\n',
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_secrets_go_into_files(case):
    url, given_secrets, changes, name, text = FILES[case]
    assert secrets(url, given_secrets, **changes) == {f"/etc/modelfleet/centers/depot/{name}": text}


@pytest.mark.parametrize("case", FILES)
def test_a_unit_holds_no_secret(case):
    url, given_secrets, changes, *_rest = FILES[case]
    made = center(url, credentials=tuple(sorted(given_secrets)), **changes)
    text = _center_unit.render(made)
    assert not any(value in text for value in given_secrets.values())
    assert _centers.parse("x", text) == made


@pytest.mark.parametrize(
    ("url", "given_secrets", "changes"),
    [
        ("nfs://filer/vol", {"password": "hunter2"}, {}),
        ("file:///data/depot", {"access_key": "hunter2"}, {}),
        ("s3://depot-a", {"access_key": "hunter2"}, {"verify_path": "x"}),
        ("s3://depot-a", {**KEYS, "session_token": "t"}, {"verify_path": "x", "client": "s3fs"}),
        ("juicefs+etcd://meta/x", {"meta_password": "hunter2"}, {}),
        ("smb://svc@nas/x", {"password": "hunter2\nuid=0"}, {}),
    ],
)
def test_secrets_that_are_of_no_use_are_refused(url, given_secrets, changes):
    with pytest.raises(ModelfleetError) as caught:
        secrets(url, given_secrets, **changes)
    assert caught.value.code == "invalid_input"
    assert "hunter2" not in caught.value.msg


@pytest.mark.parametrize(
    ("credentials", "options", "refused"),
    [
        ((), (), True),
        ((), ("noperm",), True),
        ((), ("guest",), False),
        (("password",), (), False),
        (("password",), ("guest",), True),
    ],
)
def test_nobody_is_a_guest_who_does_not_say_so(credentials, options, refused):
    made = center("smb://svc@nas/depot", credentials=credentials, options=options)
    assert ("guest" in _storage.definition(made).options) is ("guest" in options)
    if not refused:
        _storage.require_secrets(made)
        return
    with pytest.raises(ModelfleetError) as caught:
        _storage.require_secrets(made)
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_input", "credentials")


@pytest.mark.parametrize(
    ("url", "changes", "option"),
    [
        ("s3://depot-a", {}, "verify_path"),
        ("davs://store/dav", {}, "verify_path"),
        ("nfs://filer/vol", {"client": "rclone"}, "client"),
        ("nfs://filer/vol", {"cache_dir": "/cache"}, "cache_dir"),
        ("juicefs+redis://meta/1", {"cache_size": 7}, "cache_size"),
        ("file:///data/depot", {"options": ("noatime",)}, "options"),
        ("image:///data/x.squashfs", {"read_only": False}, "storage_url"),
        ("existing:///mnt/weka", {}, "storage_url"),
        ("nfs://filer/vol", {"options": ("nofail",)}, "options[0]"),
        ("nfs://filer/vol", {"options": ("hard", "password=hunter2")}, "options[1]"),
        ("nfs://filer/vol", {"options": ("a,b",)}, "options[0]"),
        ("nfs://filer/vol", {"options": ("a b",)}, "options[0]"),
        ("nfs://filer/vol", {"options": ("",)}, "options[0]"),
        ("nfs://filer/vol", {"options": ("hard", "soft")}, "options"),
        ("s3://depot-a", {"verify_path": "x", "options": ("config=/tmp/x",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "options": ("s3-secret-access-key=hunter2",)}, "options[0]"),
        ("juicefs+redis://meta/1", {"options": ("writeback",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "options": ("rc",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "options": ("rc-addr=0.0.0.0:1",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "options": ("dump=auth",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "client": "s3fs", "options": ("credlib=/x",)}, "options[0]"),
        ("s3://depot-a", {"verify_path": "x", "client": "s3fs", "cache_dir": "/c", "cache_size": 7}, "cache_size"),
        ("sftp://svc@store/x", {"options": ("StrictHostKeyChecking=no",)}, "options[0]"),
        ("sftp://svc@store/x", {"options": ("ProxyJump=svc@gate",)}, "options[0]"),
        ("file:///data/depot", {"mount_point": "/data/depot"}, "mount_point"),
        ("file:///data/depot", {"mount_point": "/data/depot/below"}, "mount_point"),
        ("file:///data/depot", {"mount_point": "/data"}, "mount_point"),
        ("ceph://mon/shelf", {"client": "fuse"}, "verify_path"),
        ("ceph://mon/shelf", {**FUSE, "options": ("client_oc_size=1G", "log-file=/etc/x")}, "options[1]"),
        ("ceph://mon/shelf", {**FUSE, "options": ("client-fs=other",)}, "options[0]"),
    ],
)
def test_options_that_do_not_go_together_are_refused(url, changes, option):
    with pytest.raises(ModelfleetError) as caught:
        center(url, **changes)
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_input", option)
    assert "hunter2" not in caught.value.msg


def test_every_file_of_a_back_end_is_one():
    directory = os.path.dirname(_storage.__file__)
    files = {name[:-3] for name in os.listdir(directory) if name.endswith(".py")}
    used = {type(back_end).__module__.rpartition(".")[2] for back_end in _storage.BACK_ENDS.values()}
    assert files - used == {"__init__", "_backend", "_url", "_rclone"}


def test_every_secret_of_a_back_end_is_an_option():
    from ansible_collections.modelfleet.kvm.plugins.modules import model_center_mount

    known = {name for back_end in _storage.BACK_ENDS.values() for name in back_end.credentials}
    assert known == set(model_center_mount.CREDENTIALS)


SCHEMES = sorted(_storage.BACK_ENDS)
URLS = st.one_of(
    p.HOSTILE,
    st.builds(lambda scheme, rest: f"{scheme}://{rest}", st.sampled_from(SCHEMES), p.HOSTILE),
    st.builds(
        lambda scheme, user, host, path, query: f"{scheme}://{user}{host}{path}{query}",
        st.sampled_from(SCHEMES),
        st.sampled_from(["", "svc@", "a:b@", "@", "%00@"]),
        st.sampled_from(["", "h", "h:1", "a,b", "[::1]", "-x", "h%20", "lustre"]),
        p.PATHS,
        st.one_of(st.just(""), p.HOSTILE.map(lambda text: f"?{text}"), st.just("?fstype=xfs"), st.just("?device=a:/b")),
    ),
)


@p.examples(1500)
@given(URLS)
def test_a_hostile_url_is_refused_or_harmless(url):
    try:
        normal = _storage.check(url)
    except ModelfleetError as problem:
        assert problem.code == "invalid_input"
        return
    assert _storage.check(normal) == normal
    assert normal.isascii() and normal.isprintable() and " " not in normal
    made = dataclasses.replace(CENTER, storage_url=normal, verify_path="x", mount_point=_mount_point(normal))
    text = _center_unit.render(made)
    # Nothing of a URL ends a line, or begins a section or a setting.
    assert _centers.parse("x", text) == made
    assert [line for line in text.splitlines() if line.startswith("[")] in SECTIONS
    for option in _storage.definition(made).options:
        assert "," not in option


SECTIONS = [["[Unit]", kind, "[Install]", "[X-Modelfleet]"] for kind in ("[Mount]", "[Service]")]


def _mount_point(url):
    return _storage.path(url) if url.startswith("existing:") else CENTER.mount_point


@p.examples(300)
@given(st.sampled_from(["svc", "a-b", "x@y"]), st.lists(p.NAMES, min_size=1, max_size=3), p.STRANGE_PATHS)
def test_a_url_parses_to_what_it_was_made_of(user, hosts, path):
    hosts = [host.strip("._-") or "h" for host in hosts]
    made = _url.Url("x", user, tuple(hosts), path, (("a", path),))
    assert _url.parse(made.text) == made
