# SPDX-License-Identifier: GPL-3.0-or-later
#
# Judges messages as the gateway does on which it runs, with one of the checks of docs/more-to-look-with.md or with none, as the user amavis.
#
#   more.pl PLUGIN|none local|network DIRECTORY
#
# It reads names of files, and writes for each: CPU in seconds, with that of programs it has called; seconds; points; rules that hit.
# DIRECTORY holds links.txt, the list for the plugin Phishing, and a copy of the gateway's configuration is made there.

use strict;
use warnings;
use Mail::SpamAssassin;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID);

# Lines of local.cf that a check has and that mean nothing without it.
my %own = (
  ExtractText => qr/^(?:extracttext_|body __GATEWAY_PDF_NOT_READ )/,
  OLEVBMacro => qr/^(?:body|describe|score) OLEMACRO/,
  DecodeShortURLs => qr/^url_shortener/,
  Phishing => qr/^(?:phishing_|(?:body|describe|score) URI_PHISHING )/,
);
my($plugin, $asks, $directory) = @ARGV;
my $site = '/etc/spamassassin';
my($loaded, %found);
mkdir "$directory/site" or die "$directory/site: $!\n";
for my $path (glob "$site/*.cf $site/*.pre") {
  my($name) = $path =~ m{([^/]+)\z};
  open my $in, '<', $path or die "$path: $!\n";
  open my $out, '>', "$directory/site/$name" or die "$directory/site/$name: $!\n";
  while (<$in>) {
    my($of) = /^loadplugin Mail::SpamAssassin::Plugin::(\w+)/;
    undef $of if defined $of && !$own{$of};
    for my $each ($name eq 'local.cf' ? keys %own : ()) { $of = $each if $_ =~ $own{$each} }
    $found{$of} = 1 if defined $of;
    s{^(phishing_\w+_feed) .*}{$1 $directory/links.txt};
    print $out $_ if !defined $of || $of eq $plugin;
  }
  close $out or die "$directory/site/$name: $!\n";
}
die "this gateway has no $plugin: measure with the gateway of \"make demo\", or switch the check on\n" if $plugin ne 'none' && !$found{$plugin};

my $sa = Mail::SpamAssassin->new({
  dont_copy_prefs => 1, local_tests_only => $asks eq 'local', userprefs_filename => '/dev/null', site_rules_filename => "$directory/site",
  # Lists are asked with the check and without.
  post_config_text => "use_bayes 0\nskip_rbl_checks 1\nskip_uribl_checks 1\n",
});
$sa->init(1);
$sa->compile_now(0, 1);
$| = 1;
open my $status, '<', '/proc/self/status' or die "/proc/self/status: $!\n";
my($memory) = map { /^VmRSS:\s+(\d+) kB/ } <$status>;
print 'ready ', Mail::SpamAssassin::Version(), " $memory\n";

# Its own, and that of programs that have ended.
sub cpu { my(undef, undef, @children) = times; clock_gettime(CLOCK_PROCESS_CPUTIME_ID) + $children[0] + $children[1] }

while (my $path = <STDIN>) {
  chomp $path;
  open my $file, '<:raw', $path or die "$path: $!\n";
  my @lines = <$file>;
  my($cpu, $began) = (cpu(), clock_gettime(CLOCK_MONOTONIC));
  my $message = $sa->parse(\@lines, 0);
  no warnings 'once';
  $Mail::SpamAssassin::Plugin::ScanFinished::finished = 0;
  my $status = $sa->check($message);
  my($points, $hits) = ($status->get_score, $status->get_names_of_tests_hit);
  die "$path was not judged to the end\n" if !$Mail::SpamAssassin::Plugin::ScanFinished::finished;
  $status->finish;
  $message->finish;
  printf "%.4f %.4f %.3f %s\n", cpu() - $cpu, clock_gettime(CLOCK_MONOTONIC) - $began, $points, $hits || '-';
}
