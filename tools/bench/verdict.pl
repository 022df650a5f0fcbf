# SPDX-License-Identifier: GPL-3.0-or-later
#
# Judges messages as the gateway does on which it runs, as the user amavis, and says the points of each.
#
#   verdict.pl MODE DIRECTORY [OPTION OF REDIS ...] <LIST
#
# MODE is "rules" (without Bayes), "untrained" (with an empty store, which learns by itself as the gateway's own does) or
# "trained" (with what LIST says is to be learned first, and nothing else). LIST has lines like "ham FILE" and "spam FILE",
# which are learned, and "judge FILE". DIRECTORY is empty; a store of its own is kept there, and the gateway's is not asked.
# No question leaves the host.

use strict;
use warnings;
use Cwd qw(abs_path);
use Mail::SpamAssassin;
use Time::HiRes qw(sleep time);

my($mode, $directory, @redis) = @ARGV;
my %list;
while (<STDIN>) {
  my($what, $file) = /^(ham|spam|judge) (.+)$/ or die "not understood: $_";
  push @{$list{$what}}, $file;
}
$| = 1;
# Nobody listens any more: what was started ends as well.
$SIG{$_} = sub { exit 1 } for qw(HUP INT PIPE TERM);
$ENV{HOME} = $directory;
my $socket = "$directory/redis.sock";
my $redis;
END {
  my $status = $?;
  if ($redis) {
    kill TERM => $redis;
    waitpid $redis, 0;
  }
  $? = $status;
}

sub asked {
  open my $answer, '-|', 'redis-cli', '-s', $socket, @_ or die "redis-cli: $!\n";
  chomp(my @lines = <$answer>);
  s/\r\z// for @lines;
  @lines;
}

sub start_redis {
  $redis = fork // die "fork: $!\n";
  if (!$redis) {
    open STDOUT, '>', "$directory/redis.log" or die "$directory/redis.log: $!\n";
    # It does not outlive its parent, however that ends.
    exec qw(setpriv --pdeathsig TERM redis-server --port 0 --unixsocket), $socket, '--dir', $directory, '--save', '', @redis or die "redis-server: $!\n";
  }
  my $until = time + 20;
  until (-S $socket && (asked('ping'))[0] eq 'PONG') {
    die "redis-server does not answer, see $directory/redis.log\n" if time > $until;
    sleep 0.1;
  }
}

# As docs/bayes.md says it is done.
sub learn {
  my($kind, $settings, @files) = @_;
  open my $folders, '>', "$directory/$kind" or die "$directory/$kind: $!\n";
  print $folders map { abs_path($_) . "\n" } @files;
  close $folders or die "$directory/$kind: $!\n";
  my @options = ('--siteconfigpath=/etc/spamassassin', '--prefspath=/dev/null', map { "--cf=$_" } @$settings);
  open my $said, '-|', 'sa-learn', @options, "--$kind", "--folders=$directory/$kind" or die "sa-learn: $!\n";
  my $last = join '', <$said>;
  close $said or die "sa-learn: status $?\n";
  my($learned, $seen) = $last =~ /^Learned tokens from (\d+) message\(s\) \((\d+) message\(s\) examined\)$/m or die "sa-learn says: $last\n";
  die "sa-learn has seen $seen of " . @files . " messages\n" if $seen != @files;
  $learned;
}

my %learned = (spam => 0, ham => 0);
my @settings = 'use_bayes 0';
if ($mode ne 'rules') {
  start_redis();
  @settings = ("bayes_sql_dsn server=$socket;database=0", $mode eq 'trained' ? 'bayes_auto_learn 0' : ());
  for my $kind (qw(spam ham)) { $learned{$kind} = learn($kind, \@settings, @{$list{$kind}}) if $list{$kind} }
}

my $sa = Mail::SpamAssassin->new({
  dont_copy_prefs => 1, local_tests_only => 1, userprefs_filename => '/dev/null', site_rules_filename => '/etc/spamassassin',
  post_config_text => join '', map { "$_\n" } @settings,
});
$sa->init(1);
my $store = 'Mail::SpamAssassin::BayesStore::BoundedRedis';
die "this gateway has no Bayes: set gateway_bayes\n" if $mode ne 'rules' && !($sa->{conf}{use_bayes} && $sa->{conf}{bayes_store_module} eq $store);
$sa->compile_now(0, 1);
print 'rules ', Mail::SpamAssassin::Version(), ' ', $sa->{rules_filename} // $sa->first_existing_path(@Mail::SpamAssassin::default_rules_path), "\n";

for my $path (@{$list{judge} || []}) {
  open my $file, '<:raw', $path or die "$path: $!\n";
  my $message = $sa->parse([<$file>], 0);
  no warnings 'once';
  $Mail::SpamAssassin::Plugin::ScanFinished::finished = 0;
  my $status = $sa->check($message);
  # A gateway would have asked the client to come back, or would have judged it without Bayes: there are no points then that mean anything.
  die "$path was not judged to the end\n" if !$Mail::SpamAssassin::Plugin::ScanFinished::finished;
  die "$path: the store did not answer in time\n" if $mode ne 'rules' && $store->is_silent;
  my($learned) = split ' ', $status->get_autolearn_status // '-';
  print join(' ', 'judged', $path, $status->get_score, $learned, $status->get_names_of_tests_hit_with_scores =~ s/ //gr), "\n";
  $status->finish;
  $message->finish;
}

if ($mode ne 'rules') {
  my($spam, $ham) = asked(qw(mget v:NSPAM v:NHAM));
  my($keys) = asked('dbsize');
  die "the store has not kept what was learned\n" if $mode eq 'trained' && "$spam $ham" ne "$learned{spam} $learned{ham}";
  my($evicted) = map { /^evicted_keys:(\d+)/ } asked(qw(info stats));
  printf "store %d %d %d %d\n", $spam || 0, $ham || 0, $keys, $evicted;
}
