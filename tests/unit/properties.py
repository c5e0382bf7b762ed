# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the property tests run, and the hostile values that they share.

The examples are the same in every run, so that a check does not fail by chance. MODELFLEET_EXAMPLES=20 tries twenty
times as many, for somebody who is looking for faults.
"""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, configuration, settings
from hypothesis import strategies as st

# It keeps tables of its own somewhere; not in the sources.
configuration.set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), f"modelfleet-hypothesis-{os.getuid()}"))
settings.register_profile(
    "modelfleet",
    derandomize=True,
    database=None,
    deadline=5_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("modelfleet")


def examples(count):
    """How many examples of a property are tried."""
    return settings(max_examples=count * int(os.environ.get("MODELFLEET_EXAMPLES", "1")))


# What means something to a path, a shell, XML, a unit file, fstab, a mount table, a terminal or a text encoding.
PIECES = (
    "a b.c-d_e+f:g,h=i Model-7 models srv etc proc .. . ... ~ - -- --help -o,rw -rf * ? [ ] [a-z] {x} $HOME $(id) `id`"
    " ; & | > < ' \" \\ \\040 \\x2d \\n % %% %i %n %H # ! ^ ua-modelfleet- <mount/> ]]> <!-- &amp; &lt; &#10;"
    " {{ 7*7 }} {% raw %}"
).split()
PIECES += [" ", "  ", "\t", "\n", "\r", "\v", "\0", "\x1b[2J", "\x1c", "\x7f", "\x85", "\xa0", "\xad"]
PIECES += ["\u2028", "\u2029", "\u202e", "\u200b", "\ufeff", "\ufffd", "\ufffe", "\ufdd0", "\ud800", "\udcff"]
PIECES += ["\xe9", "e\u0301", "\u6a21\u578b", "\U0001f40d", "\U0001fffe", "\U0010ffff", "\u0661", "\u017f", "\uff0f"]
PIECES += ["/", "//", "/../", "/./", "/etc/", "/proc/self/root/", "/models/", "a" * 64, "b" * 255, "\xe9" * 128]

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
UUIDS = st.uuids().map(str)
HOSTILE = st.one_of(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=8).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=6).map("/".join),
    st.sampled_from(PIECES).flatmap(lambda piece: st.integers(1, 4096 // len(piece)).map(lambda times: piece * times)),
    st.text(st.characters(), max_size=30),
)
# Every second one looks like a path.
PATHS = st.one_of(HOSTILE.map(lambda text: f"/{text}"), HOSTILE)
# Names of a guest's or a model center's directories that are strange, and allowed.
STRANGE_PARTS = st.text(
    st.one_of(
        st.sampled_from("'\"\\%$`;&|<>*?[]{}#!~-. =,:@\xe9\u6a21\U0001f40d"),
        st.characters(categories=["L", "M", "N", "P", "S", "Zs"], exclude_characters="/"),
    ),
    max_size=12,
).map(lambda text: f"x{text}x")
STRANGE_PATHS = st.lists(STRANGE_PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
